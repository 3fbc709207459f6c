package boot_test

import (
	"fmt"
	"strings"
	"testing"

	"spillway.dev/platform/boot"
)

func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		check    func(variable, value string) error
		allowed  string
		good     []string
		bad      []string
		variable string
	}{
		"listen": {boot.CheckListen, "host:port or :port",
			[]string{":8080", "127.0.0.1:0", "[::1]:80", "localhost:65535"},
			[]string{"", "8080", "foo", ":http", ":65536", ":-1", ":08", "a:b:1"}, "SPILLWAY_HTTP_ADDR"},
		"address": {boot.CheckAddr, "host:port",
			[]string{"127.0.0.1:6379", "redis:6379", "[::1]:6379", "redis.spillway.svc.cluster.local:6379"},
			[]string{"", "foo", "redis", ":6379", "redis:", "redis:0", "redis:redis", "redis:65536", "redis://redis:6379", "::1:6379"},
			"SPILLWAY_REDIS_ADDR"},
		"target": {boot.CheckTarget, "xds:///NAME or host:port",
			[]string{"xds:///bank", "127.0.0.1:9000", "[::1]:9000", "bank:9000"},
			[]string{"", "bank", "xds:bank", "xds://bank", "xds:///", "xds:///Bank", "xds:///a/b", "http://bank:80", "dns:///bank", "bank:grpc", ":9000"},
			"SPILLWAY_BANK_TARGET"},
		"NATS": {boot.CheckNATS, "nats://host:port",
			[]string{"nats://127.0.0.1:4222", "nats://[::1]:4222", "tls://nats:4222", "nats://user:word@nats:4222", "nats://a:1,nats://b:2", "nats://a:1/"},
			[]string{"", "foo", "nats:4222", "nats://", "nats://nats", "nats://:4222", "nats://[::1", "nats://nats:port", "http://nats:4222", "nats://a:1,", "nats://a:1/x"},
			"SPILLWAY_NATS_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, value := range c.good {
				if err := c.check(c.variable, value); err != nil {
					t.Errorf("%q is refused: %v", value, err)
				}
			}
			for _, value := range c.bad {
				want := fmt.Sprintf("%s=%q is not allowed: give %s", c.variable, value, c.allowed)
				if err := c.check(c.variable, value); err == nil || err.Error() != want {
					t.Errorf("%q gives\n%v\nwant\n%s", value, err, want)
				}
			}
		})
	}
}

func TestNATSReplicas(t *testing.T) {
	for n := -1; n < 8; n++ {
		err := boot.CheckNATSReplicas("SPILLWAY_NATS_REPLICAS", n)
		if good := n == 1 || n == 3 || n == 5; good != (err == nil) {
			t.Errorf("%d: %v", n, err)
		} else if want := fmt.Sprintf("SPILLWAY_NATS_REPLICAS=\"%d\" is not allowed: give 1, 3 or 5", n); !good && err.Error() != want {
			t.Errorf("%d gives\n%v\nwant\n%s", n, err, want)
		}
	}
}

func TestAPasswordInTheAddressIsNotTold(t *testing.T) {
	for _, value := range []string{"nats://ann:secret@nats", "nats://ann:secret@[::1", "nats://ann:secret@a:1,nats://ann:secret@b"} {
		if err := boot.CheckNATS("SPILLWAY_NATS_URL", value); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("the line for a wrong address is %v", err)
		}
	}
}

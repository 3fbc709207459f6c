package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/problem"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// freePort is a port that nobody listens on just now.
func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

// The service as it is run: it starts without NATS, refuses checkouts quickly
// until NATS is there, then works by itself, and drains cleanly.
func TestService(t *testing.T) {
	w := newWorld(t)
	addr, natsPort := fmt.Sprintf("127.0.0.1:%d", freePort(t)), freePort(t)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := boot.Run(ctx, spec(), []string{
			"SPILLWAY_GRPC_ADDR=" + addr, "SPILLWAY_ADMIN_ADDR=127.0.0.1:0", fmt.Sprintf("SPILLWAY_NATS_URL=nats://127.0.0.1:%d", natsPort),
			"SPILLWAY_INVENTORY_TARGET=" + w.addr, "SPILLWAY_PAYMENT_TARGET=" + w.addr,
			"SPILLWAY_START_TIMEOUT=50ms", "SPILLWAY_CAPACITY_SERVICE_TIME=0s", "SPILLWAY_ORDER_LEASE=500ms",
		}, t.Output())
		if err != nil {
			t.Errorf("run: %v", err)
		}
	})
	defer wg.Wait()
	defer stop()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := orderv1.NewOrderServiceClient(conn)
	eventually(t, "without NATS a checkout is refused at once", func() bool {
		begin := time.Now()
		_, err := client.Checkout(t.Context(), request("key-00001"), grpc.WaitForReady(true))
		p := problem.From(err)
		return p != nil && p.Code == codes.Unavailable && p.Reason == problem.DependencyAway && time.Since(begin) < time.Second
	})
	bad := request("key-00001")
	bad.SeatIds = []string{"A-1", "A-1"}
	if _, err := client.Checkout(t.Context(), bad); problem.Reason(err) != problem.InvalidArgument {
		t.Errorf("the same seat twice: %v", err)
	}
	ns := broker(t, natsd.Options{Port: natsPort})
	eventually(t, "with NATS it works", func() bool {
		_, err := client.Checkout(t.Context(), request("key-00001"))
		return err == nil
	})
	ends(t, ns, w, orderID("ada", "key-00001"), confirmed)
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, bad := range []string{
		"SPILLWAY_ORDER_LEASE=1ms", "SPILLWAY_ORDER_LEASE=1h", "SPILLWAY_ORDER_LEASE=soon",
		"SPILLWAY_NATS_REPLICAS=0", "SPILLWAY_NATS_REPLICAS=2", "SPILLWAY_NATS_REPLICAS=all",
	} {
		var stderr strings.Builder
		err := boot.Run(t.Context(), spec(), []string{bad}, &stderr)
		if name, _, _ := strings.Cut(bad, "="); err == nil || !strings.Contains(stderr.String(), name) {
			t.Errorf("%s: %v, %q", bad, err, stderr.String())
		}
	}
}

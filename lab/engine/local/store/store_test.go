package store

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}

func TestNATSKeepsItsStreams(t *testing.T) {
	dir := t.TempDir()
	// run lets use work with a server that ends afterwards.
	run := func(use func(context.Context, jetstream.JetStream) error) {
		t.Helper()
		n, err := StartNATS(freePort(t), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		conn, err := nats.Connect(n.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := use(ctx, js); err != nil {
			t.Error(err)
		}
	}
	run(func(ctx context.Context, js jetstream.JetStream) error {
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}}); err != nil {
			return err
		}
		_, err := js.Publish(ctx, "s.1", []byte("kept"))
		return err
	})
	run(func(ctx context.Context, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, "S")
		if err != nil {
			return err
		}
		m, err := s.GetMsg(ctx, 1)
		if err == nil && string(m.Data) != "kept" {
			t.Errorf("message %q", m.Data)
		}
		return err
	})
}

func TestRedisKeepsWhatItAnswered(t *testing.T) {
	path, kind, found := FindRedis(t.Context())
	if !found || kind == "redis-server" {
		t.Fatalf("redis-server must be installed for the tests, found %v %q", found, kind)
	}
	dir, port := t.TempDir(), freePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	conf := filepath.Join(dir, "redis.conf")
	if err := os.WriteFile(conf, []byte("maxclients 77\nport 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(use func(context.Context, *redis.Client) error) {
		t.Helper()
		server := exec.Command(path, RedisArgs(conf, port, dir)...)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		// As a crash would end it.
		defer func() { _ = server.Process.Signal(syscall.SIGKILL); _ = server.Wait() }()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := WaitRedis(ctx, address); err != nil {
			t.Fatal(err)
		}
		client := redis.NewClient(&redis.Options{Addr: address})
		defer client.Close()
		if err := use(ctx, client); err != nil {
			t.Error(err)
		}
	}
	run(func(ctx context.Context, c *redis.Client) error { return c.Set(ctx, "k", "kept", 0).Err() })
	run(func(ctx context.Context, c *redis.Client) error {
		v, err := c.Get(ctx, "k").Result()
		if err == nil && v != "kept" {
			t.Errorf("value %q", v)
		}
		if limit, err := c.ConfigGet(ctx, "maxclients").Result(); err != nil || limit["maxclients"] != "77" {
			t.Errorf("maxclients: %v, %v", limit, err)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := WaitRedis(ctx, address); err == nil {
		t.Error("nobody listens, and it answers")
	}
}

func TestTimePassesInMiniRedis(t *testing.T) {
	port := freePort(t)
	m, err := StartMiniRedis(port)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	client := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 100*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Exists(t.Context(), "k").Result(); err != nil || n != 1 {
		t.Fatalf("the key is gone at once: %d, %v", n, err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if n, err := client.Exists(t.Context(), "k").Result(); err != nil {
			t.Fatal(err)
		} else if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the key never expires")
		}
	}
}

func TestMiniRedisComesBackWithWhatItHad(t *testing.T) {
	m, err := StartMiniRedis(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	client := redis.NewClient(&redis.Options{Addr: m.redis.Addr(), MaxRetries: -1})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Error("it was stopped, and it answers")
	}
	for range 2 { // the second time it runs already
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := client.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("got %q, %v", v, err)
	}
}

package telemetry

import (
	"context"
	"net"
	"os/exec"
	"testing"
	"time"
)

// startRedis runs a real server that keeps nothing, and gives its address.
func startRedis(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = free.Close()
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := server.Start(); err != nil {
		t.Fatalf("redis-server does not start; install it: %v", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.Close()
			return addr
		}
		if ctx.Err() != nil {
			t.Fatalf("redis-server does not answer at %s: %v", addr, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

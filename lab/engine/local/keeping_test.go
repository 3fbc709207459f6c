package local

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Orders in JetStream must not outlive the seats in Redis, or these are sold
// again: without a redis-server every start begins with nothing, and what a
// mesh with one has kept stays as it is.
func TestNothingIsKeptWithoutRedisServer(t *testing.T) {
	redisServer, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: scripts/test-deps installs it", err)
	}
	root, state := newRoot(t), filepath.Join(t.TempDir(), "state")
	with, without := filepath.Dir(redisServer)+string(os.PathListSeparator)+os.Getenv("PATH"), t.TempDir()

	// run starts an engine, tells whether the order of the run before is there,
	// writes one, and stops the engine.
	run := func(path string) (found bool) {
		t.Helper()
		t.Setenv("PATH", path)
		b := &bench{t: t, root: root, state: state}
		e, err := Up(t.Context(), b.options())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := e.Down(ctx); err != nil {
				t.Error(err)
			}
		}()
		conn, err := nats.Connect(e.natsURL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			t.Fatal(err)
		}
		orders, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "orders", Storage: jetstream.FileStorage})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = orders.Get(t.Context(), "o-1"); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Fatal(err)
		}
		found = err == nil
		if _, err := orders.Put(t.Context(), "o-1", nil); err != nil {
			t.Fatal(err)
		}
		return found
	}
	for i, step := range []struct {
		path string
		want bool
	}{
		{with, false}, {with, true}, {without, false}, {without, false}, {with, true},
	} {
		if got := run(step.path); got != step.want {
			t.Errorf("run %d, redis-server on the PATH %v: the order of an earlier run is there: %v, want %v", i+1, step.path == with, got, step.want)
		}
	}
}

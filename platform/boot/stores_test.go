package boot_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
)

// inTime is what a call with its store away may take; under -race on a loaded machine the scheduler alone takes some of
// it, so there is a second try before a test fails.
const inTime = 250 * time.Millisecond

// away checks that a call fails in time, as a problem that names the cause.
func away(t *testing.T, what string, call func() error) {
	t.Helper()
	var took time.Duration
	for range 3 {
		begin := time.Now()
		err := call()
		took = time.Since(begin)
		if p := problem.From(err); p == nil || p.Code != codes.Unavailable || p.Reason != problem.DependencyAway || !p.Retryable ||
			p.Metadata["dependency"] != "redis" {
			t.Fatalf("%s: error is %v", what, err)
		}
		if took <= inTime {
			return
		}
	}
	t.Errorf("%s: took %v, want at most %v", what, took, inTime)
}

func TestRedisAwayFailsInTimeAndIsBackAtOnce(t *testing.T) {
	store := startRedis(t)
	var client *redis.Client
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		client = app.Redis(store.Addr())
		return nil
	}))
	r.WaitServing()
	ctx := t.Context()
	ping := func() error { return client.Ping(ctx).Err() }
	pipeline := func() error {
		_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "a", 1, 0)
			p.Get(ctx, "a")
			return nil
		})
		return err
	}
	script := redis.NewScript(`return redis.call("INCR", KEYS[1])`)
	run := func() error { return script.Run(ctx, client, []string{"n"}).Err() }
	there := func(when string) {
		t.Helper()
		for name, call := range map[string]func() error{"ping": ping, "pipeline": pipeline, "script": run} {
			if err := call(); err != nil {
				t.Errorf("%s, the first %s: %v", when, name, err)
			}
		}
	}
	there("at first")
	if err := client.Get(ctx, "nobody").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("a key that is not there: %v", err)
	}
	if err := client.LPush(ctx, "n", 1).Err(); err == nil || problem.Reason(err) != problem.Internal {
		t.Errorf("a command that Redis refuses: %v, want the plain answer", err)
	}

	if err := store.Kill(); err != nil {
		t.Fatal(err)
	}
	away(t, "refused, ping", ping)
	away(t, "refused, pipeline", pipeline)
	away(t, "refused, script", run)
	// More failures at once than the pool has connections: it must not lock itself up.
	var wg sync.WaitGroup
	for range 300 {
		wg.Go(func() {
			if err := ping(); problem.Reason(err) != problem.DependencyAway {
				t.Errorf("refused, many at once: %v", err)
			}
		})
	}
	wg.Wait()
	if err := store.Restart(); err != nil {
		t.Fatal(err)
	}
	there("back after it was refused")

	if err := store.Pause(); err != nil {
		t.Fatal(err)
	}
	away(t, "hanging, connected", ping)
	away(t, "hanging, pipeline", pipeline)
	begin := time.Now()
	for range 100 { // all have to dial, and more than the pool has wait for their turn
		wg.Go(func() {
			if err := ping(); problem.Reason(err) != problem.DependencyAway {
				t.Errorf("hanging, many at once: %v", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(begin); took > 4*inTime { // they share the processor, with the race detector on
		t.Errorf("hanging, many at once: took %v", took)
	}
	if err := store.Resume(); err != nil {
		t.Fatal(err)
	}
	there("back after it hung")

	// The caller's own end is told as such.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := client.Ping(gone).Err(); problem.Reason(err) != problem.Canceled {
		t.Errorf("a caller that is gone: %v", err)
	}
}

// startNATS runs a JetStream server; with dir and port of one that was stopped it is that one, back again.
func startNATS(t *testing.T, dir string, port int) *natsserver.Server {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("NATS does not start")
	}
	t.Cleanup(func() { stopNATS(s) })
	return s
}

func stopNATS(s *natsserver.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func TestNATSAwayIsAState(t *testing.T) {
	dir := t.TempDir()
	server := startNATS(t, dir, natsserver.RANDOM_PORT)
	url, port := server.ClientURL(), server.Addr().(*net.TCPAddr).Port
	stopNATS(server)

	var nc *nats.Conn
	var js jetstream.JetStream
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) (err error) {
		if nc, err = app.NATS(url); err != nil {
			return err
		}
		if js, err = jetstream.New(nc); err != nil {
			return err
		}
		app.Dependency("stream", func(ctx context.Context) error {
			_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "SALES", Subjects: []string{"orders.paid"}})
			return err
		})
		return nil
	}), "SPILLWAY_START_TIMEOUT=1h")
	r.Line("dependency away, trying on")
	publish := func(id string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "orders.paid", nil, jetstream.WithMsgID(id))
		return err
	}
	begin := time.Now()
	if err := publish("lost"); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("publishing with NATS away: %v after %v, want an error at once", err, time.Since(begin))
	}

	server = startNATS(t, dir, port)
	r.WaitServing()
	if err := publish("one"); err != nil {
		t.Errorf("with NATS there: %v", err)
	}
	stopNATS(server)
	eventually(t, "the loss is noticed", func() bool { return !nc.IsConnected() })
	if err := publish("lost too"); err == nil {
		t.Error("published to nobody")
	}
	startNATS(t, dir, port)
	eventually(t, "NATS is used again", func() bool { return nc.IsConnected() })
	if err := publish("two"); err != nil {
		t.Errorf("with NATS back: %v", err)
	}
	stream, err := js.Stream(t.Context(), "SALES")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 2 {
		t.Errorf("%d messages are stored, want the 2 that were acknowledged: what was given up must not be sent later", n)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if !nc.IsClosed() {
		t.Error("the connection is open after the drain")
	}
}

// TestDrainLetsSubscriptionsFinish holds a message in a handler while the replica drains.
func TestDrainLetsSubscriptionsFinish(t *testing.T) {
	server := startNATS(t, t.TempDir(), natsserver.RANDOM_PORT)
	in, finish := make(chan struct{}), make(chan struct{})
	var finished atomic.Bool
	var nc *nats.Conn
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) (err error) {
		if nc, err = app.NATS(server.ClientURL()); err != nil {
			return err
		}
		_, err = nc.Subscribe("work", func(m *nats.Msg) {
			close(in)
			<-finish
			finished.Store(true)
			if err := m.Respond([]byte("done")); err != nil {
				t.Error(err)
			}
		})
		return err
	}), "SPILLWAY_DRAIN_TIMEOUT=60s")
	r.WaitServing()
	other, err := nats.Connect(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	answer := make(chan error, 1)
	go func() {
		_, err := other.Request("work", nil, 30*time.Second)
		answer <- err
	}()
	<-in
	r.SIGTERM()
	eventually(t, "the connection drains", func() bool { return nc.IsDraining() })
	close(finish)
	if err := <-answer; err != nil {
		t.Errorf("the request in hand: %v", err)
	}
	if err := r.Stop(); err != nil || !finished.Load() {
		t.Errorf("Run returned %v, finished %v", err, finished.Load())
	}
}

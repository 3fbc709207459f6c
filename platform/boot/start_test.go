package boot_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/redistest"
)

func startRedis(t *testing.T) *redistest.Server {
	t.Helper()
	s, err := redistest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestRedisAwayAtStartIsAState(t *testing.T) {
	store := startRedis(t)
	if err := store.Kill(); err != nil {
		t.Fatal(err)
	}
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		client := app.Redis(store.Addr())
		app.Dependency("redis", func(ctx context.Context) error { return client.Ping(ctx).Err() })
		return nil
	}), "SPILLWAY_START_TIMEOUT=1h")

	r.Line("dependency away, trying on")
	want := map[string]string{"": "NOT_SERVING", exampleService: "NOT_SERVING", "startup": "NOT_SERVING", "liveness": "SERVING"}
	if got := statuses(t, r); !maps.Equal(got, want) {
		t.Errorf("health is %v, want %v", got, want)
	}
	if state, status := healthz(t, r); state != "starting" || status != 503 {
		t.Errorf("healthz says %s with %d", state, status)
	}
	p := problem.From(call(t, r.Conn))
	if p.Code != codes.Unavailable || p.Reason != problem.NotServingYet || !p.Retryable || p.RetryAfter <= 0 {
		t.Errorf("a call that comes too early is told %v", p)
	}

	if err := store.Restart(); err != nil {
		t.Fatal(err)
	}
	r.WaitServing()
	want = map[string]string{"": "SERVING", exampleService: "SERVING", "startup": "SERVING", "liveness": "SERVING"}
	if got := statuses(t, r); !maps.Equal(got, want) {
		t.Errorf("health is %v, want %v", got, want)
	}
	if state, status := healthz(t, r); state != "serving" || status != 200 {
		t.Errorf("healthz says %s with %d", state, status)
	}
	if err := call(t, r.Conn); err != nil {
		t.Error(err)
	}

	// Readiness does not cascade.
	if err := store.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := statuses(t, r); !maps.Equal(got, want) {
		t.Errorf("with Redis away again health is %v, want %v", got, want)
	}
}

func TestStartGoesOnWithoutADependency(t *testing.T) {
	var there atomic.Bool
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		app.Dependency("late", func(context.Context) error {
			if there.Load() {
				return nil
			}
			return errors.New("away")
		})
		app.Dependency("never", func(ctx context.Context) error {
			<-ctx.Done() // hangs: each attempt is bounded
			return ctx.Err()
		})
		return nil
	}), "SPILLWAY_START_TIMEOUT=50ms")
	r.WaitServing()
	if err := call(t, r.Conn); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"late", "never"} {
		if !strings.Contains(r.Logs(), `"msg":"going on without a dependency","service":"example","instance":"example-test","dependency":"`+name) {
			t.Errorf("the log does not say that %s is away", name)
		}
	}
	there.Store(true)
	if line := r.Line("dependency reached"); line["dependency"] != "late" {
		t.Errorf("reached: %v", line)
	}
}

func TestWarmUpRunsInOrderAndIsNotFatal(t *testing.T) {
	var d diary
	inside, goOn := make(chan struct{}), make(chan struct{})
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		app.Dependency("store", func(context.Context) error { d.note("dependency"); return nil })
		app.Warm("first", func(context.Context) error {
			d.note("first")
			close(inside)
			<-goOn
			return errors.New("nothing to warm")
		})
		app.Warm("second", func(context.Context) error { d.note("second"); return nil })
		app.Worker("worker", func(ctx context.Context) error { d.note("worker"); <-ctx.Done(); return nil })
		return nil
	}))
	<-inside
	if state, _ := healthz(t, r); state != "warming" {
		t.Errorf("state is %s, want warming", state)
	}
	if reason := problem.Reason(call(t, r.Conn)); reason != problem.NotServingYet {
		t.Errorf("a call while warming is told %q", reason)
	}
	close(goOn)
	r.WaitServing()
	eventually(t, "the worker runs", func() bool { return len(d.read()) == 4 })
	if got, want := strings.Join(d.read(), " "), "dependency first second worker"; got != want {
		t.Errorf("order is %q, want %q", got, want)
	}
	if line := r.Line("warm-up step failed"); line["step"] != "first" || line["error"] != "nothing to warm" {
		t.Errorf("log says %v", line)
	}
}

func TestWarmUpEndsWithTheStartTimeout(t *testing.T) {
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		app.Warm("endless", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		return nil
	}), "SPILLWAY_START_TIMEOUT=50ms")
	r.WaitServing()
}

func TestSIGTERMWhileStartingEndsTheStart(t *testing.T) {
	warmed := false
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		app.Dependency("never", func(context.Context) error { return errors.New("away") })
		app.Warm("late", func(context.Context) error { warmed = true; return nil })
		return nil
	}), "SPILLWAY_START_TIMEOUT=1h")
	r.Line("dependency away, trying on")
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if warmed {
		t.Error("a replica that was told to end warmed up")
	}
	r.Line("drained")
}

func TestBuildThatFailsGivesEverythingBack(t *testing.T) {
	var d diary
	broken := errors.New("no such programme")
	err := boot.Run(t.Context(), spec(&service{}, func(app *boot.App) error {
		app.Redis("127.0.0.1:1")
		if _, err := app.NATS("nats://127.0.0.1:1"); err != nil {
			t.Error(err)
		}
		if _, err := app.Dial("inventory", "passthrough:///127.0.0.1:1"); err != nil {
			t.Error(err)
		}
		if _, err := app.Loopback(); err != nil {
			t.Error(err)
		}
		app.ServeHTTP("http", "127.0.0.1:0", nil)
		app.OnClose("a", func(context.Context) error { d.note("a"); return nil })
		app.OnClose("b", func(context.Context) error { d.note("b"); return nil })
		return broken
	}), []string{"SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0"}, &strings.Builder{})
	if !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if got := strings.Join(d.read(), " "); got != "b a" {
		t.Errorf("closed %q, want the last added first", got)
	}
}

func TestDialByAResolverThatIsNotLinked(t *testing.T) {
	err := boot.Run(t.Context(), spec(&service{}, func(app *boot.App) error {
		_, err := app.Dial("inventory", "xds:///inventory")
		return err
	}), []string{"SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0"}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "import google.golang.org/grpc/xds") {
		t.Errorf("error is %v; it must say what to import", err)
	}
}

func TestHTTPPortThatCannotBeOpened(t *testing.T) {
	err := boot.Run(t.Context(), spec(&service{}, func(app *boot.App) error {
		app.ServeHTTP("http", "192.0.2.1:80", nil) // an address that no host has
		return nil
	}), []string{"SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0"}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), `cannot listen on http="192.0.2.1:80"`) {
		t.Errorf("error is %v", err)
	}
}

func TestNATSAddressThatIsNone(t *testing.T) {
	err := boot.Run(t.Context(), spec(&service{}, func(app *boot.App) error {
		_, err := app.NATS("nats://[::1")
		return err
	}), []string{"SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0"}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "NATS address is not allowed") {
		t.Errorf("error is %v", err)
	}
}

// What a replica is worse than useless without keeps it from being ready past the start timeout, which counts from then.
func TestStartWaitsForWhatItRequires(t *testing.T) {
	there := make(chan struct{})
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		app.Require("the mesh", func(ctx context.Context) error {
			select {
			case <-there:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		app.Dependency("store", func(context.Context) error {
			select {
			case <-there:
				return nil
			default:
				return errors.New("was tried before what is required")
			}
		})
		return nil
	}), "SPILLWAY_START_TIMEOUT=1ms")

	r.Line("dependency away, trying on")
	if state, status := healthz(t, r); state != "starting" || status != 503 {
		t.Errorf("healthz says %s with %d", state, status)
	}
	close(there)
	r.WaitServing()
	if err := call(t, r.Conn); err != nil {
		t.Error(err)
	}
}

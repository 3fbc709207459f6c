package boot_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/redis/go-redis/v9"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
)

// metric is the value of one series of the replica, as Prometheus would scrape it.
func metric(t *testing.T, r *boottest.Replica, series string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + r.Addr("admin") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no series %s in\n%s", series, text)
	return 0
}

// stop ends a replica whose start has an hour to go: the start must not hold it up.
func stop(t *testing.T, r *boottest.Replica) {
	t.Helper()
	begin := time.Now()
	if err := r.Stop(); err != nil || time.Since(begin) > 20*time.Second {
		t.Errorf("ended with %v after %v, want at once", err, time.Since(begin))
	}
}

func TestStartIsHeldAndCanBeEnded(t *testing.T) {
	for name, test := range map[string]struct {
		environ []string
		knobs   map[string]string
	}{
		"by the environment": {environ: []string{"SPILLWAY_START_DELAY=1h"}},
		"by the knob":        {knobs: map[string]string{"start.delay": "9m"}, environ: []string{"SPILLWAY_CAPACITY_KIND=cpu"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := boottest.Start(t, spec(&service{}, func(app *boot.App) error { return app.Knobs().Apply(test.knobs) }),
				append(test.environ, "SPILLWAY_CAPACITY_SLOTS=4", "SPILLWAY_CAPACITY_SERVICE_TIME=10ms", "SPILLWAY_START_CPU=0.5")...)
			r.Line("modelled start")
			if state, _ := healthz(t, r); state != "starting" {
				t.Errorf("the state is %s, want starting", state)
			}
			if got := statuses(t, r); got["startup"] != "NOT_SERVING" || got["liveness"] != "SERVING" {
				t.Errorf("health is %v, want alive and not started", got)
			}
			eventually(t, "the start keeps half the slots busy", func() bool { return metric(t, r, "spillway_capacity_busy_slots") == 2 })
			before := metric(t, r, "spillway_capacity_cpu_seconds_total")
			eventually(t, "that counts as CPU used", func() bool { return metric(t, r, "spillway_capacity_cpu_seconds_total") > before })
			stop(t, r)
		})
	}
}

// The modelled start does not take from what warm-up may take.
func TestStartDelayThenWarmUp(t *testing.T) {
	var begun time.Time
	var left error
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		begun = time.Now()
		app.Warm("look", func(ctx context.Context) error {
			left = ctx.Err()
			if took := time.Since(begun); took < 300*time.Millisecond {
				t.Errorf("warm-up began after %v", took)
			}
			return nil
		})
		return nil
	}), "SPILLWAY_START_DELAY=300ms", "SPILLWAY_START_TIMEOUT=250ms")
	r.WaitServing()
	if left != nil {
		t.Errorf("warm-up had no time left: %v", left)
	}
}

func TestColdReplica(t *testing.T) {
	environ := []string{"SPILLWAY_CAPACITY_SLOTS=4", "SPILLWAY_CAPACITY_SERVICE_TIME=1ms", "SPILLWAY_COLD_FOR=1h", "SPILLWAY_COLD_FACTOR=5",
		"SPILLWAY_START_CPU=0.25"}
	about := func(t *testing.T, r *boottest.Replica, want float64) {
		t.Helper()
		if got := metric(t, r, "spillway_capacity_service_seconds_mean"); math.Abs(got-want) > want/10 {
			t.Errorf("mean service time is %v s, want about %v", got, want)
		}
	}
	t.Run("ready at once", func(t *testing.T) {
		r := boottest.Start(t, spec(&service{}, nil), environ...)
		r.WaitServing()
		about(t, r, 0.005)
		if busy := metric(t, r, "spillway_capacity_busy_slots"); busy != 1 {
			t.Errorf("%v slots are busy with the start, want 1", busy)
		}
		if err := call(t, r.Conn); err != nil {
			t.Error(err)
		}
	})
	t.Run("ready after", func(t *testing.T) {
		r := boottest.Start(t, spec(&service{}, nil), append(environ, "SPILLWAY_COLD_READY=after")...)
		r.Line("warming itself up")
		if state, _ := healthz(t, r); state != "warming" {
			t.Errorf("the state is %s, want warming", state)
		}
		if reason := problem.Reason(call(t, r.Conn)); reason != problem.NotServingYet {
			t.Errorf("a call while it is cold is told %q", reason)
		}
		stop(t, r)
	})
	t.Run("warm", func(t *testing.T) {
		r := boottest.Start(t, spec(&service{}, nil), append(environ, "SPILLWAY_COLD_READY=after", "SPILLWAY_COLD_FOR=50ms")...)
		r.WaitServing()
		about(t, r, 0.001)
	})
}

func TestSlowdownKnob(t *testing.T) {
	var app *boot.App
	r := boottest.Start(t, spec(&service{}, func(a *boot.App) error { app = a; return nil }), "SPILLWAY_CAPACITY_SERVICE_TIME=2ms")
	r.WaitServing()
	for value, want := range map[string]float64{"4": 0.008, "0.5": 0.001} {
		if err := app.Knobs().Apply(map[string]string{"capacity.slowdown": value}); err != nil {
			t.Fatal(err)
		}
		if got := metric(t, r, "spillway_capacity_service_seconds_mean"); got != want {
			t.Errorf("slowed down by %s the mean service time is %v s, want %v", value, got, want)
		}
	}
	if err := app.Knobs().Apply(map[string]string{"capacity.slowdown": "0.01"}); err == nil {
		t.Error("a slow-down of 0.01 was taken")
	}
	if err := app.Knobs().Apply(nil); err != nil {
		t.Fatal(err)
	}
	if got := metric(t, r, "spillway_capacity_service_seconds_mean"); got != 0.002 {
		t.Errorf("put back the mean service time is %v s, want 0.002", got)
	}
}

func TestConnectionsHaveAnAge(t *testing.T) {
	r := boottest.Start(t, spec(&service{}, nil), "SPILLWAY_GRPC_MAX_CONNECTION_AGE=50ms")
	r.WaitServing()
	var dialled atomic.Int64
	conn, err := grpc.NewClient(r.Addr("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			dialled.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "the caller has connected five times", func() bool {
		if err := call(t, conn); err != nil {
			t.Fatalf("a call failed as its connection ended: %v", err)
		}
		return dialled.Load() >= 5
	})
}

func TestRedisOutOfConnections(t *testing.T) {
	store := startRedis(t)
	admin := redis.NewClient(&redis.Options{Addr: store.Addr(), PoolSize: 1})
	defer admin.Close()
	if err := admin.ConfigSet(t.Context(), "maxclients", "1").Err(); err != nil {
		t.Fatal(err)
	}
	var client *redis.Client
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		client = app.Redis(store.Addr())
		return nil
	}), "SPILLWAY_REDIS_POOL_SIZE=3")
	r.WaitServing()
	if got := client.Options().PoolSize; got != 3 {
		t.Errorf("the pool has room for %d connections, want 3", got)
	}
	const refusedTotal = "spillway_redis_refused_connections_total"
	eventually(t, "a refusal is told and counted", func() bool {
		p := problem.From(client.Ping(t.Context()).Err())
		if p == nil || p.Code != codes.Unavailable || p.Reason != problem.DependencyAway || !p.Retryable {
			t.Fatalf("a call without a connection: %v", p)
		}
		// Redis closes the connection with its answer; a call that writes after that may see the end alone.
		return strings.Contains(p.Message, "takes no more connections") && metric(t, r, refusedTotal) >= 1
	})
	if err := admin.ConfigSet(t.Context(), "maxclients", "100").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "there are connections again", func() bool { return client.Ping(t.Context()).Err() == nil })
	refused := metric(t, r, refusedTotal)
	if err := client.Get(t.Context(), "nobody").Err(); !errors.Is(err, redis.Nil) || metric(t, r, refusedTotal) != refused {
		t.Errorf("served: %v, and %v refusals after %v", err, metric(t, r, refusedTotal), refused)
	}
}

func TestRedisKeepsConnectionsReady(t *testing.T) {
	store := startRedis(t)
	var client *redis.Client
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		client = app.Redis(store.Addr())
		return nil
	}), "SPILLWAY_REDIS_POOL_SIZE=4", "SPILLWAY_REDIS_MIN_IDLE=2")
	r.WaitServing()
	eventually(t, "two connections are idle", func() bool { return client.PoolStats().IdleConns == 2 })
}

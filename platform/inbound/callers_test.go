package inbound_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// The states of a breaker, as its metric tells them.
const (
	closed = 0
	open   = 2
)

// burst is how many attempts of a process may be retries beyond a tenth of its calls, in any stretch of time (platform/outbound/budget).
const burst = 10

// caller is a service with the whole outbound chain, its retries under a budget and its breakers on.
type caller struct {
	sessionv1.SessionServiceClient
	registry *prometheus.Registry
}

func call(t *testing.T, o *overloaded, service string) caller {
	t.Helper()
	set, registry := knobs.NewSet(), prometheus.NewPedanticRegistry()
	refused, err := refusal.New(registry)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := outbound.New(outbound.Config{Shave: 5 * time.Millisecond, Attempts: 3},
		outbound.Replica{Service: service, Log: slog.New(slog.DiscardHandler), Registry: registry, Knobs: set, Refused: refused})
	if err != nil {
		t.Fatal(err)
	}
	// Longer than what is looked at while all breakers are open.
	if err := set.Apply(map[string]string{"retry.mode": "budget", "breaker.mode": "on", "breaker.open_for": "10s"}); err != nil {
		t.Fatal(err)
	}
	return caller{sessionv1.NewSessionServiceClient(o.dial(t, chain.DialOptions("session")...)), registry}
}

// crowd is all callers of one server.
type crowd struct {
	callers []caller
	random  *rand.Rand
}

// counted sums a metric over all callers.
func (c *crowd) counted(t *testing.T, name string, labels map[string]string) (total int) {
	t.Helper()
	for _, one := range c.callers {
		total += counted(t, one.registry, name, labels)
	}
	return total
}

// breakers tells whether those of all callers are in a state.
func (c *crowd) breakers(t *testing.T, state int) bool {
	t.Helper()
	for _, one := range c.callers {
		if counted(t, one.registry, "spillway_breaker_state", nil) != state {
			return false
		}
	}
	return true
}

// ends is what became of calls.
type ends struct {
	sent, served [criticality.Classes]int
	// shed: refused by the callee; stopped: by the caller's own breaker; away: the callee, or what it needs, is; late: the
	// deadline passed, or would have.
	shed, stopped, away, late int
	attempts                  int // at the callers' side
}

func sum(n [criticality.Classes]int) int { return n[0] + n[1] + n[2] }

// share is the part of a class that was served.
func (e *ends) share(class criticality.Class) float64 {
	return float64(e.served[class]) / float64(max(1, e.sent[class]))
}

// offer makes calls, so many a second on the average, until enough says so, and waits for the last of them. A tenth of the
// calls is critical and seven are sheddable. Each has a second. It checks what holds at all times: no call outlasts its
// deadline, each has one end, and attempts are at most a tenth more than the calls, and a burst.
func (c *crowd) offer(t *testing.T, perSecond float64, enough func() bool) *ends {
	t.Helper()
	e := &ends{attempts: -c.counted(t, "grpc_client_attempts_total", nil)}
	var mu sync.Mutex
	var under sync.WaitGroup
	for !enough() {
		time.Sleep(time.Duration(c.random.ExpFloat64() * float64(time.Second) / perSecond))
		class, band := criticality.Class(min((c.random.IntN(10)+1)/2, 2)), criticality.Band(c.random.IntN(criticality.Bands))
		client := c.callers[c.random.IntN(len(c.callers))]
		e.sent[class]++
		under.Go(func() {
			ctx, cancel := context.WithTimeout(criticality.With(t.Context(), class, band), time.Second)
			defer cancel()
			from := time.Now()
			_, err := client.Touch(ctx, &sessionv1.TouchRequest{Token: "t"})
			if took := time.Since(from); took > time.Second {
				t.Errorf("a call with a second was kept for %v", took)
			}
			mu.Lock()
			defer mu.Unlock()
			switch p := problem.From(err); {
			case err == nil:
				e.served[class]++
			case p.Reason == problem.Overloaded && p.Metadata[refusal.ByKey] == "shed":
				e.shed++
			case p.Reason == problem.BreakerOpen:
				e.stopped++
			case p.Code == codes.Unavailable:
				e.away++
			case p.Code == codes.DeadlineExceeded:
				e.late++
			default:
				t.Error(err)
			}
		})
	}
	under.Wait()
	e.attempts += c.counted(t, "grpc_client_attempts_total", nil)
	calls := sum(e.sent)
	t.Logf("%d calls, %d attempts; of %v served %v; shed %d, stopped %d, away %d, late %d",
		calls, e.attempts, e.sent, e.served, e.shed, e.stopped, e.away, e.late)
	if all := sum(e.served) + e.shed + e.stopped + e.away + e.late; all != calls {
		t.Errorf("%d calls ended, %d were made", all, calls)
	}
	if most := 1.1*float64(calls) + float64(burst*len(c.callers)); float64(e.attempts) > most {
		t.Errorf("%d calls became %d attempts, want at most %.0f", calls, e.attempts, most)
	}
	return e
}

// lasting is enough after a time.
func lasting(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return !time.Now().Before(end) }
}

// until is enough once a condition holds, looked at every tenth of a second, and an error when that takes minutes.
func until(t *testing.T, what string, holds func() bool) func() bool {
	t.Helper()
	tired, look := lasting(5*time.Minute), lasting(0)
	return func() bool {
		if tired() {
			t.Error("not within five minutes: " + what)
			return true
		}
		if !look() {
			return false
		}
		look = lasting(100 * time.Millisecond)
		return holds()
	}
}

// TestCallersOfAnOverloadedServer has two services whose retries are budgeted and whose breakers are on call one that really
// sheds, over real gRPC. It is overloaded; then what it needs fails at times as well; then it is down; then it is back, as
// overloaded as before.
func TestCallersOfAnOverloadedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flaky atomic.Bool
		var asked atomic.Int64
		o := overload(t, capacity.Config{Slots: 5, ServiceTime: 40 * time.Millisecond, Distribution: capacity.Exponential, Seed: 1},
			map[string]string{"shed.mode": "priority"}, func() error {
				if flaky.Load() && asked.Add(1)%3 == 0 {
					return problem.New(codes.Unavailable, problem.DependencyAway, "Redis does not answer").Retry(0)
				}
				return nil
			})
		defer func() { o.stop() }()
		const full = 125 // calls a second: its five slots over 40 ms
		c := &crowd{callers: []caller{call(t, o, "gateway"), call(t, o, "order")}, random: rand.New(rand.NewPCG(1, 2))}
		urgentFirst := func(e *ends) {
			t.Helper()
			if e.share(criticality.Critical) < 0.9 || e.share(criticality.Sheddable) > 0.5 {
				t.Errorf("of the critical calls %.2f are served, want 0.90 and more; of the sheddable ones %.2f, want 0.50 at most",
					e.share(criticality.Critical), e.share(criticality.Sheddable))
			}
			if e.shed == 0 || e.stopped > 0 || e.away > 0 || !c.breakers(t, closed) {
				t.Errorf("%d are shed, %d stopped at a breaker, %d find nobody; breakers closed: %v", e.shed, e.stopped, e.away, c.breakers(t, closed))
			}
			if e.attempts != sum(e.sent) {
				t.Errorf("%d calls became %d attempts, and nothing but refusals could be tried again", sum(e.sent), e.attempts)
			}
		}

		// Five times what it can serve: it refuses four of five calls, which nobody repeats and no breaker minds.
		overloaded := c.offer(t, 5*full, lasting(5*time.Second))
		urgentFirst(overloaded)
		if got := counted(t, o.registry, "spillway_refused_total", map[string]string{"by": "shed"}); got != overloaded.shed {
			t.Errorf("%d calls are shed, and it counts %d", overloaded.shed, got)
		}
		if got := c.counted(t, "spillway_breaker_transitions_total", nil); got != 0 {
			t.Errorf("breakers changed %d times while their callee shed", got)
		}

		// A third of those that it serves ask for another attempt, more than the budget has.
		flaky.Store(true)
		before := counted(t, o.registry, "grpc_server_started_total", nil)
		failing := c.offer(t, 2*full, lasting(10*time.Second))
		flaky.Store(false)
		arrived := counted(t, o.registry, "grpc_server_started_total", nil) - before
		if arrived <= sum(failing.sent) || arrived > failing.attempts {
			t.Errorf("of %d calls and %d attempts %d arrive", sum(failing.sent), failing.attempts, arrived)
		}
		if failing.shed == 0 || failing.stopped > 0 || c.counted(t, "spillway_retry_budget_denied_total", nil) == 0 || !c.breakers(t, closed) {
			t.Errorf("%d are shed, %d stopped at a breaker, the budget denied %d attempts; breakers closed: %v", failing.shed, failing.stopped,
				c.counted(t, "spillway_retry_budget_denied_total", nil), c.breakers(t, closed))
		}

		// Nobody listens any more: that is what breakers are for.
		o.stop()
		down := c.offer(t, 2*full, until(t, "the breakers open", func() bool { return c.breakers(t, open) }))
		if sum(down.served)+down.shed > 0 || down.away == 0 {
			t.Errorf("of a server that is down %d calls got an answer, %d found nobody", sum(down.served)+down.shed, down.away)
		}
		if left := c.offer(t, 2*full, lasting(time.Second)); left.attempts > 0 || left.stopped != sum(left.sent) {
			t.Errorf("%d attempts are made past open breakers, which stop %d of %d calls", left.attempts, left.stopped, sum(left.sent))
		}

		// It is back, and so is everybody: the breakers close although it sheds, and all is as it was.
		o.serve()
		c.offer(t, 5*full, until(t, "the breakers close", func() bool { return c.breakers(t, closed) }))
		urgentFirst(c.offer(t, 5*full, lasting(5*time.Second)))

		for _, gauge := range []string{"spillway_queue_length", "spillway_concurrency_in_flight", "spillway_capacity_queue_length"} {
			if n := counted(t, o.registry, gauge, nil); n != 0 {
				t.Errorf("%s is %d at the end", gauge, n)
			}
		}
	})
}

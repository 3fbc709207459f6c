package breaker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// caller is a process with breakers.
type caller struct {
	t   *testing.T
	set *knobs.Set
	reg *prometheus.Registry
	all *Breakers
	to  *Breaker // the bank's
}

func newCaller(t *testing.T, values map[string]string) *caller {
	t.Helper()
	c := &caller{t: t, set: knobs.NewSet(), reg: prometheus.NewPedanticRegistry()}
	refused, err := refusal.New(c.reg)
	if err != nil {
		t.Fatal(err)
	}
	if c.all, err = New(c.set, refused, c.reg); err != nil {
		t.Fatal(err)
	}
	c.to = c.all.For("bank")
	c.apply(values)
	return c
}

func (c *caller) apply(values map[string]string) {
	c.t.Helper()
	if err := c.set.Apply(values); err != nil {
		c.t.Fatal(err)
	}
}

// call makes a call that takes so long and gives err.
func (c *caller) call(took time.Duration, err error) error {
	return c.to.Unary(c.t.Context(), "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		time.Sleep(took) // virtual
		return err
	})
}

// refusedCall makes a call and tells whether the breaker refused it, and for how long.
func (c *caller) refusedCall() (bool, time.Duration) {
	c.t.Helper()
	err := c.call(0, nil)
	if err == nil {
		return false, 0
	}
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok || p.Reason != problem.BreakerOpen || p.Code != codes.Unavailable || !p.Retryable || p.Metadata["dependency"] != "bank" {
		c.t.Fatalf("the call failed with %v", err)
	}
	return true, p.RetryAfter
}

func (c *caller) state(want string) {
	c.t.Helper()
	if got := c.to.current.Load().State().String(); got != want {
		c.t.Errorf("the breaker is %s, want %s", got, want)
	}
}

func (c *caller) metrics(want string, names ...string) {
	c.t.Helper()
	if err := testutil.GatherAndCompare(c.reg, strings.NewReader(want), names...); err != nil {
		c.t.Error(err)
	}
}

var (
	away = status.Error(codes.Unavailable, "away")
	on   = map[string]string{"breaker.mode": "on"}
)

func TestOffPassesAll(t *testing.T) {
	c := newCaller(t, nil)
	for range 100 {
		if err := c.call(0, away); !errors.Is(err, away) {
			t.Fatalf("got %v", err)
		}
	}
	if n := testutil.CollectAndCount(states{c.all}); n != 0 {
		t.Errorf("%d states are told of breakers that are off", n)
	}
	c.apply(on) // what came before does not count
	if refused, _ := c.refusedCall(); refused {
		t.Error("the first call with the breaker on is refused")
	}
}

func TestOneLifeOfABreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, map[string]string{"breaker.mode": "on", "breaker.open_for": "3s"})
		for range minimumCalls / 2 {
			_ = c.call(0, nil)
			_ = c.call(0, status.Error(codes.NotFound, "none"))
		}
		for range minimumCalls - 1 {
			_ = c.call(0, away)
		}
		c.state("closed")
		_ = c.call(0, away) // now it is half of all
		c.state("open")
		c.metrics(`
# HELP spillway_breaker_state State of the circuit breaker of a callee: 0 closed, 1 half-open, 2 open. Absent while breakers are off.
# TYPE spillway_breaker_state gauge
spillway_breaker_state{callee="bank"} 2
`, "spillway_breaker_state")
		if refused, after := c.refusedCall(); !refused || after != 3*time.Second {
			t.Errorf("refused: %v, for %v; want for 3s", refused, after)
		}
		time.Sleep(2 * time.Second)
		if refused, after := c.refusedCall(); !refused || after != time.Second {
			t.Errorf("refused: %v, for %v; want for 1s", refused, after)
		}
		time.Sleep(time.Second + 1)
		c.state("half-open")

		// As many probes as may, at the same time; the next has to wait for them.
		var calls sync.WaitGroup
		for range probes {
			calls.Go(func() { _ = c.call(time.Second/2, nil) })
		}
		synctest.Wait()
		if refused, after := c.refusedCall(); !refused || after != time.Second {
			t.Errorf("beside %d probes a call is refused: %v, for %v; want for 1s", probes, refused, after)
		}
		calls.Wait()
		c.state("closed")
		c.metrics(`
# HELP spillway_breaker_transitions_total Changes of a circuit breaker's state, by callee and the state that it went to.
# TYPE spillway_breaker_transitions_total counter
spillway_breaker_transitions_total{callee="bank",to="closed"} 1
spillway_breaker_transitions_total{callee="bank",to="half-open"} 1
spillway_breaker_transitions_total{callee="bank",to="open"} 1
`, "spillway_breaker_transitions_total")
		c.metrics(`
# HELP spillway_refused_total Calls refused on purpose, by the protection that refused, the call's class, and the dependency that it was meant for; callee is empty for calls into this service.
# TYPE spillway_refused_total counter
spillway_refused_total{by="breaker",callee="bank",priority="critical"} 0
spillway_refused_total{by="breaker",callee="bank",priority="sheddable"} 0
spillway_refused_total{by="breaker",callee="bank",priority="standard"} 3
`, "spillway_refused_total")
	})
}

func TestAFailedProbeOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, on)
		for range minimumCalls {
			_ = c.call(0, away)
		}
		time.Sleep(5*time.Second + 1)
		for range probes - 1 {
			_ = c.call(0, nil)
		}
		c.state("half-open")
		_ = c.call(2*time.Second, nil) // too slow is failed
		c.state("open")
		if refused, after := c.refusedCall(); !refused || after != 5*time.Second {
			t.Errorf("refused: %v, for %v", refused, after)
		}
		// What says nothing about the callee gives its place among the probes to others.
		time.Sleep(5*time.Second + 1)
		for range 3 * probes {
			if err := c.call(0, status.Error(codes.Canceled, "gone")); problem.Reason(err) == problem.BreakerOpen {
				t.Fatal("probes that say nothing use up the places")
			}
		}
		c.state("half-open")
		for range probes {
			_ = c.call(0, nil)
		}
		c.state("closed")
	})
}

func TestOnlyTheLastSecondsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, on)
		for range 1000 {
			_ = c.call(0, nil)
		}
		for range 999 {
			_ = c.call(0, away)
		}
		c.state("closed")
		// The successes go out of the window first.
		time.Sleep(window / 2)
		for range minimumCalls {
			_ = c.call(0, nil)
		}
		time.Sleep(window/2 + window/10)
		for range minimumCalls - 1 {
			_ = c.call(0, away)
		}
		c.state("closed")
		for range 2 {
			_ = c.call(0, away)
		}
		c.state("open")
	})
}

func TestSlowCallsOpenIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, map[string]string{"breaker.mode": "on", "breaker.slow_call": "300ms", "breaker.failure_ratio": "0.25"})
		for range 17 {
			_ = c.call(0, nil)
		}
		for range 5 {
			_ = c.call(300*time.Millisecond, nil)
		}
		c.state("closed")
		_ = c.call(300*time.Millisecond, nil)
		c.state("open") // 6 of 23
	})
}

// TestWaitingHereIsNotSlowness: the time that a call waits for its turn on this side is not the callee's.
func TestWaitingHereIsNotSlowness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, on)
		for range 3 * minimumCalls {
			_ = c.to.Unary(t.Context(), "/m", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				ctx = context.WithValue(ctx, struct{ other string }{}, 1) // whatever comes between
				time.Sleep(2 * time.Second)
				Waited(ctx, 2*time.Second)
				return nil
			})
		}
		c.state("closed")
		Waited(t.Context(), time.Second) // no breaker measures it
	})
}

// TestKnobsMoveUnderCalls: a call under way reports to the breaker that let it out, and every change begins anew.
func TestKnobsMoveUnderCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, on)
		var calls sync.WaitGroup
		for range minimumCalls {
			calls.Go(func() {
				if err := c.call(time.Second, away); !errors.Is(err, away) {
					t.Errorf("a call under way gives %v", err)
				}
			})
		}
		synctest.Wait()
		c.apply(map[string]string{"breaker.mode": "on", "breaker.open_for": "1s"})
		calls.Wait()
		c.state("closed") // they failed before this one
		for range minimumCalls {
			_ = c.call(0, away)
		}
		if refused, after := c.refusedCall(); !refused || after != time.Second {
			t.Errorf("refused: %v, for %v; want for 1s", refused, after)
		}
		c.apply(nil)
		if refused, _ := c.refusedCall(); refused {
			t.Error("off, it refuses")
		}
		// The ratio is that of the moment.
		c.apply(on)
		for range minimumCalls {
			_ = c.call(0, nil)
		}
		_ = c.call(0, away)
		c.state("closed")
		c.apply(map[string]string{"breaker.mode": "on", "breaker.failure_ratio": "0.05"})
		_ = c.call(0, away)
		c.state("open")
	})
}

func TestAPanicGivesThePlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, on)
		for range minimumCalls {
			_ = c.call(0, away)
		}
		time.Sleep(5*time.Second + 1)
		for i := range 2 * probes {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic is swallowed")
					}
				}()
				if i%2 == 0 {
					_ = c.to.Unary(t.Context(), "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { panic("odd") })
				} else {
					_, _ = c.to.Stream(t.Context(), nil, nil, "/m", func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
						panic("odd")
					})
				}
			}()
		}
		if refused, _ := c.refusedCall(); refused {
			t.Error("probes that panicked keep their places")
		}
	})
}

// TestCalleesDoNotShare: each has a breaker of its own, and always the same.
func TestCalleesDoNotShare(t *testing.T) {
	c := newCaller(t, on)
	other := c.all.For("inventory")
	if c.all.For("bank") != c.to || other == c.to {
		t.Error("For mixes callees up")
	}
	for range minimumCalls {
		_ = c.call(0, away)
	}
	if err := other.Unary(t.Context(), "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return nil
	}); err != nil {
		t.Errorf("with the bank's breaker open, inventory gives %v", err)
	}
	if _, err := New(knobs.NewSet(), nil, c.reg); err == nil {
		t.Error("two sets of breakers report to one registry")
	}
}

// TestManyCallsAndChanges looks for races: calls of all outcomes, knobs that move, metrics that are read.
func TestManyCallsAndChanges(t *testing.T) {
	c := newCaller(t, on)
	var work sync.WaitGroup
	for worker := range 4 {
		work.Go(func() {
			for i := range 300 {
				err := []error{nil, away, status.Error(codes.Canceled, "gone")}[(i+worker)%3]
				got := c.call(0, err)
				if !errors.Is(got, err) && problem.Reason(got) != problem.BreakerOpen {
					t.Errorf("a call with %v gives %v", err, got)
				}
			}
		})
	}
	work.Go(func() {
		for i := range 100 {
			c.apply(map[string]string{"breaker.mode": []string{"on", "off"}[i%2], "breaker.open_for": fmt.Sprintf("%dms", 10+i%3)})
			if _, err := c.reg.Gather(); err != nil {
				t.Error(err)
			}
		}
	})
	work.Wait()
}

package pacing

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/gcra"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// caller is a replica that paces its calls to the bank.
type caller struct {
	t   *testing.T
	set *knobs.Set
	reg *prometheus.Registry
	to  *Pacer
}

func newCaller(t *testing.T, mode, perSecond string) *caller {
	t.Helper()
	c := &caller{t: t, set: knobs.NewSet(), reg: prometheus.NewPedanticRegistry()}
	refused, err := refusal.New(c.reg)
	if err != nil {
		t.Fatal(err)
	}
	all, err := New(c.set, refused, c.reg)
	if err != nil {
		t.Fatal(err)
	}
	c.to = all.For("bank")
	if all.For("bank") != c.to || all.For("order") == c.to {
		t.Error("For mixes callees up")
	}
	c.apply(mode, perSecond)
	return c
}

func (c *caller) apply(mode, perSecond string) {
	c.t.Helper()
	if err := c.set.Apply(map[string]string{"pacing.mode": mode, "pacing.bank.per_second": perSecond}); err != nil {
		c.t.Fatal(err)
	}
}

// call makes a call within timeout and gives when it left, counted from now.
func (c *caller) call(timeout time.Duration) (left time.Duration, err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(c.t.Context(), timeout)
	defer cancel()
	left = -1
	err = c.to.Unary(ctx, "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		left = time.Since(begun)
		return nil
	})
	return left, err
}

func refusedFor(t *testing.T, err error) time.Duration {
	t.Helper()
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok || p.Reason != problem.Overloaded || p.Code != codes.ResourceExhausted || p.Metadata[refusal.ByKey] != "pacing" {
		t.Fatalf("got %v, want OVERLOADED by pacing", err)
	}
	return p.RetryAfter
}

func TestOffAndRateZeroPassAll(t *testing.T) {
	for _, c := range []*caller{newCaller(t, "off", "0.001"), newCaller(t, "replica", "0")} {
		for range 100 {
			if _, err := c.call(time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if n := testutil.CollectAndCount(rates{c.to.all}); n != 0 {
			t.Errorf("%d rates are told where nothing is paced", n)
		}
	}
}

func TestCallsWaitForTheirTurnOrFailAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, "replica", "10")
		var calls sync.WaitGroup
		var mu sync.Mutex
		var left []time.Duration
		for range 5 {
			calls.Go(func() {
				at, err := c.call(time.Hour)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				left = append(left, at)
			})
			synctest.Wait()
		}
		// A turn that is at the deadline is too late, and so is one beyond pacing.max_wait; neither costs time.
		begun := time.Now()
		_, err := c.call(600 * time.Millisecond)
		if after := refusedFor(t, err); after != 600*time.Millisecond {
			t.Errorf("retry after %v, want 600ms", after)
		}
		if err := c.set.Apply(map[string]string{"pacing.mode": "replica", "pacing.bank.per_second": "10", "pacing.max_wait": "599ms"}); err != nil {
			t.Fatal(err)
		}
		_, err = c.call(time.Hour)
		refusedFor(t, err)
		if took := time.Since(begun); took != 0 {
			t.Errorf("the refusals took %v", took)
		}
		c.apply("replica", "10")
		// They took no turn from this one.
		if at, err := c.call(601 * time.Millisecond); err != nil || at != 600*time.Millisecond {
			t.Errorf("the call after them left after %v, %v; want 600ms", at, err)
		}
		calls.Wait()
		for i, at := range left {
			if want := time.Duration(i+1) * 100 * time.Millisecond; at != want {
				t.Errorf("call %d left after %v, want %v", i, at, want)
			}
		}
		if err := testutil.GatherAndCompare(c.reg, strings.NewReader(`
# HELP spillway_pacing_rate_per_second Calls to a callee that pacing lets out a second: this replica's, in mode global all replicas'. Absent while nothing is paced.
# TYPE spillway_pacing_rate_per_second gauge
spillway_pacing_rate_per_second{callee="bank"} 10
`), "spillway_pacing_rate_per_second"); err != nil {
			t.Error(err)
		}
		if n := testutil.CollectAndCount(c.to.all.waits); n != 2 { // one series a callee
			t.Errorf("%d series of waits", n)
		}
	})
}

// TestNothingBlocksPastItsContext: neither a wait for a turn nor a stream's, and who gives up leaves nothing behind
// (synctest would not end while a goroutine waits).
func TestNothingBlocksPastItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, "replica", "2")
		if _, err := c.call(time.Hour); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		begun := time.Now()
		_, err := c.to.Stream(ctx, nil, nil, "/m", func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			t.Error("it left")
			return nil, nil
		})
		if took := time.Since(begun); status.Code(err) != codes.Canceled || took != 100*time.Millisecond {
			t.Errorf("a call that is given up after 100ms ends after %v with %v", took, err)
		}
		if _, err := c.call(0); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a call without time gives %v", err)
		}
	})
}

// TestTheShareFollowsTheReplicas: the parts of all replicas are the rate, whatever their number, and unknown is one.
func TestTheShareFollowsTheReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, "share", "50")
		_, _ = c.call(time.Hour)
		for _, n := range []int{0, 1, 2, 3, 7, 12, 2} {
			c.set.SetReplicas(n)
			n = max(n, 1)
			time.Sleep(time.Minute) // whatever was owed is paid
			begun := time.Now()
			for range 11 {
				if _, err := c.call(time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			interval := time.Since(begun) / 10
			if least := time.Duration(n) * time.Second / 50; interval < least || interval > least+time.Duration(n) {
				t.Errorf("of %d replicas one sends every %v, want %v", n, interval, least)
			}
		}
		c.apply("replica", "50")
		c.set.SetReplicas(12)
		if got := c.to.all.interval("replica", 50); got != 20*time.Millisecond {
			t.Errorf("each for itself, one of 12 replicas sends every %v", got)
		}
	})
}

// TestReplicasThatAreAdded: the bank's quota is 12 a second with a burst of a second; two replicas that are asked for three
// times as much become twelve at once. No call is above the quota.
func TestReplicasThatAreAdded(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			begun, quota := time.Now(), gcra.NewLimiter()
			var work sync.WaitGroup
			var sent, breaches atomic.Int64
			var replicas []*caller
			grow := func(n int) {
				for range n {
					c := newCaller(t, "share", "12")
					if err := c.set.Apply(map[string]string{"pacing.mode": "share", "pacing.bank.per_second": "12", "pacing.max_wait": "500ms"}); err != nil {
						t.Fatal(err)
					}
					replicas = append(replicas, c)
				}
				for _, c := range replicas {
					c.set.SetReplicas(len(replicas))
				}
			}
			r := rand.New(rand.NewPCG(seed, 13))
			grow(2)
			for calls := 0; time.Since(begun) < 40*time.Second; calls++ {
				if len(replicas) == 2 && time.Since(begun) > 20*time.Second {
					grow(10)
				}
				c := replicas[calls%len(replicas)]
				work.Go(func() {
					_ = c.to.Unary(t.Context(), "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
						sent.Add(1)
						if wait, _ := quota.Admit(time.Since(begun), gcra.Ask{Key: "bank", Limit: gcra.PerSecond(12, 12)}); wait > 0 {
							breaches.Add(1)
						}
						return nil
					})
				})
				time.Sleep(time.Duration(r.ExpFloat64() * float64(time.Second) / 36))
			}
			work.Wait()
			if n := sent.Load(); breaches.Load() > 0 || n < 9*40 || n > 12*41 {
				t.Errorf("seed %d: of %d calls in 40 s %d were above the quota of 12 a second", seed, n, breaches.Load())
			}
		})
	}
}

// TestOnlyWhatCountsIsPaced: what the callee's quota does not count goes past, and takes nobody's turn.
func TestOnlyWhatCountsIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, "replica", "1")
		c.to.Only("/m")
		for range 100 {
			if err := c.to.Unary(t.Context(), "/free", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if at, err := c.call(time.Hour); err != nil || at != time.Second {
			t.Errorf("the first that counts left after %v, %v; want 1s", at, err)
		}
	})
}

// limiter counts all replicas' calls, as one in Redis does; asked tells how often it was.
type limiter struct {
	begun time.Time
	own   *gcra.Limiter
	asked atomic.Int64
}

func (l *limiter) admit(_ context.Context, limit gcra.Limit) time.Duration {
	l.asked.Add(1)
	wait, _ := l.own.Admit(time.Since(l.begun), gcra.Ask{Key: "bank", Limit: limit})
	return wait
}

// TestAllReplicasTogether: four replicas that offer half as much again as the rate send at the rate, whoever of them
// it is, and what cannot go in time is refused.
func TestAllReplicasTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{begun: time.Now(), own: gcra.NewLimiter()}
		var work sync.WaitGroup
		var sent, refused atomic.Int64
		for range 4 {
			c := newCaller(t, "global", "50")
			c.to.Together(l.admit)
			work.Go(func() {
				for range 375 { // 18.75 a second for 20 s
					work.Go(func() {
						begun := time.Now()
						if _, err := c.call(2 * time.Second); err == nil {
							sent.Add(1)
						} else {
							refusedFor(t, err)
							refused.Add(1)
						}
						if took := time.Since(begun); took > time.Second {
							t.Errorf("a call that may wait 1s took %v", took)
						}
					})
					time.Sleep(time.Second * 4 / 75)
				}
			})
		}
		work.Wait()
		seconds := time.Since(l.begun).Seconds()
		if n := float64(sent.Load()); n > 50*seconds+5 || n < 48*20 {
			t.Errorf("%v calls were sent in %v s at a rate of 50, %d refused", n, seconds, refused.Load())
		}
		if asked, calls := l.asked.Load(), sent.Load()+refused.Load(); calls != 1500 || asked > 6*calls {
			t.Errorf("the limiter was asked %d times for %d calls", asked, calls)
		}
	})
}

func TestWhoStandsInLineForAllObeysItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, "global", "1")
		c.to.Together(func(context.Context, gcra.Limit) time.Duration { return 600 * time.Millisecond })
		var calls sync.WaitGroup
		calls.Go(func() {
			_, err := c.call(time.Hour) // 600 ms, and then 600 ms more would be too long
			if after := refusedFor(t, err); after != 600*time.Millisecond {
				t.Errorf("retry after %v", after)
			}
		})
		synctest.Wait()
		calls.Go(func() {
			_, err := c.call(300 * time.Millisecond) // behind it, with no time for its turn
			refusedFor(t, err)
		})
		calls.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			err := c.to.Unary(ctx, "/m", nil, nil, nil, nil)
			if status.Code(err) != codes.Canceled && problem.Reason(err) != problem.Overloaded {
				t.Errorf("given up, it ends with %v", err)
			}
		})
		calls.Wait()
		if n := c.to.line.Load(); n != 0 || len(c.to.turn) != 0 {
			t.Errorf("%d stand in line when all have gone", n)
		}
	})
}

// TestWithoutRedisGlobalIsShare: no limiter, and the rate is kept all the same.
func TestWithoutRedisGlobalIsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCaller(t, "global", "50")
		c.set.SetReplicas(5)
		_, _ = c.call(time.Hour)
		if at, err := c.call(time.Hour); err != nil || at != 100*time.Millisecond {
			t.Errorf("the second call left after %v, %v; want 100ms", at, err)
		}
	})
}

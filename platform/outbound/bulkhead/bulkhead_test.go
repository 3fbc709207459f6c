package bulkhead

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// caller is a process whose calls to the bank are bounded.
type caller struct {
	t   *testing.T
	set *knobs.Set
	reg *prometheus.Registry
	to  *Bulkhead
}

func newCaller(t *testing.T, mode, limit string) *caller {
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
	c.apply(mode, limit)
	return c
}

func (c *caller) apply(mode, limit string) {
	c.t.Helper()
	if err := c.set.Apply(map[string]string{"bulkhead.mode": mode, "bulkhead.bank.limit": limit}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) call(inside func()) error {
	return c.to.Unary(c.t.Context(), "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		inside()
		return nil
	})
}

func (c *caller) isRefused() bool {
	c.t.Helper()
	err := c.call(func() {})
	if err == nil {
		return false
	}
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok || p.Reason != problem.Overloaded || p.Code != codes.ResourceExhausted || p.Metadata[refusal.ByKey] != "bulkhead" || p.RetryAfter <= 0 {
		c.t.Fatalf("got %v, want OVERLOADED by bulkhead", err)
	}
	return true
}

func TestTheLimitCountsCallsUnderWay(t *testing.T) {
	c := newCaller(t, "on", "3")
	leave, inside := make(chan struct{}), make(chan struct{})
	var calls sync.WaitGroup
	enter := func() {
		calls.Go(func() {
			if err := c.call(func() { inside <- struct{}{}; <-leave }); err != nil {
				t.Error(err)
			}
		})
		<-inside
	}
	for range 3 {
		enter()
	}
	if !c.isRefused() {
		t.Error("the fourth call finds a place")
	}
	if err := testutil.GatherAndCompare(c.reg, strings.NewReader(`
# HELP spillway_bulkhead_in_flight Calls to a callee that are under way now, while its bulkhead is on.
# TYPE spillway_bulkhead_in_flight gauge
spillway_bulkhead_in_flight{callee="bank"} 3
spillway_bulkhead_in_flight{callee="order"} 0
`), "spillway_bulkhead_in_flight"); err != nil {
		t.Error(err)
	}
	c.apply("on", "4")
	enter()
	c.apply("on", "2") // four are under way: they finish, and count
	leave <- struct{}{}
	if !c.isRefused() {
		t.Error("with three under way and a limit of two a call finds a place")
	}
	c.apply("off", "2")
	if c.isRefused() {
		t.Error("off, it refuses")
	}
	close(leave)
	calls.Wait()
	c.apply("on", "2")
	if c.isRefused() || c.to.places.taken.Load() != 0 {
		t.Error("calls that ended keep their places")
	}
}

// TestPlacesAreNeverMoreThanTheLimit, whoever comes and goes at the same time.
func TestPlacesAreNeverMoreThanTheLimit(t *testing.T) {
	c := newCaller(t, "on", "5")
	var work sync.WaitGroup
	var now atomic.Int64
	for range 16 {
		work.Go(func() {
			for range 500 {
				_ = c.call(func() {
					if n := now.Add(1); n > 5 {
						t.Errorf("%d calls are under way", n)
					}
					now.Add(-1)
				})
			}
		})
	}
	work.Wait()
	if n := c.to.places.taken.Load(); n != 0 {
		t.Errorf("%d places are taken in the end", n)
	}
}

func TestStreamsKeepTheirPlaceUntilTheyEnd(t *testing.T) {
	c := newCaller(t, "on", "1")
	var end func(error)
	open := func(fail error) error {
		_, err := c.to.Stream(t.Context(), nil, nil, "/m", func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			end = opts[len(opts)-1].(grpc.OnFinishCallOption).OnFinish
			return nil, fail
		}, grpc.WaitForReady(true))
		return err
	}
	if err := open(nil); err != nil || !c.isRefused() {
		t.Errorf("with a stream open a call finds the only place, %v", err)
	}
	if err := open(nil); problem.Reason(err) != problem.Overloaded {
		t.Errorf("a second stream gives %v", err)
	}
	end(nil)
	if c.isRefused() {
		t.Error("a stream that ended keeps its place")
	}
	failure := errors.New("no connection")
	if err := open(failure); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	end(failure) // gRPC tells too
	if n := c.to.places.taken.Load(); n != 0 {
		t.Errorf("after a stream that was never open %d places are taken", n)
	}
	func() {
		defer func() { _ = recover() }()
		_ = c.call(func() { panic("odd") })
	}()
	if c.isRefused() {
		t.Error("a call that panicked keeps its place")
	}
}

package retry

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/attempt"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// The load and the fault of scenarios/retry-storm.yaml.
const (
	people     = 60 // a second
	stormShows = 12
	faultFrom  = 35 * time.Second
	faultTo    = 45 * time.Second
	stormEnd   = 110 * time.Second
)

// hop is the calling side of one replica.
type hop struct {
	retries *Policy
	limit   *attempt.Limit
}

func newHop(t *testing.T, mode, timeout string) hop {
	t.Helper()
	set := knobs.NewSet()
	h := hop{policy(t, 3, set), attempt.NewLimit(set)}
	apply(t, set, map[string]string{"retry.mode": mode, "attempt.timeout": timeout})
	return h
}

// call has each attempt of a call served by handle.
func (h hop) call(ctx context.Context, callee, method string, handle func(context.Context) error) error {
	return h.retries.For(callee).Unary(ctx, method, nil, nil, nil,
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
			return h.limit.Unary(ctx, method, req, reply, cc, deliver(handle), opts...)
		})
}

// deliver is the way between two services: metadata there, a trailer back.
func deliver(handle func(context.Context) error) grpc.UnaryInvoker {
	return func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
		var back trailer
		md, _ := metadata.FromOutgoingContext(ctx)
		in := metadata.NewOutgoingContext(metadata.NewIncomingContext(ctx, md), nil)
		err := handle(grpc.NewContextWithServerTransportStream(in, &back))
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		for _, opt := range opts {
			if o, ok := opt.(grpc.TrailerCallOption); ok {
				*o.TrailerAddr = back.get()
			}
		}
		return err
	}
}

// trailer is the stream of a request, of which only that is of interest.
type trailer struct {
	mu sync.Mutex
	md metadata.MD
}

func (*trailer) Method() string               { return "" }
func (*trailer) SetHeader(metadata.MD) error  { return nil }
func (*trailer) SendHeader(metadata.MD) error { return nil }

func (s *trailer) SetTrailer(md metadata.MD) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.md = metadata.Join(s.md, md)
	return nil
}

func (s *trailer) get() metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.md
}

// tally is what was counted in one time.
type tally struct{ journeys, arrived, asked, sent int }

// amplification is attempts at inventory ÷ calls that people asked for, over both
// layers: those of catalog's questions and those of the gateway's calls.
func (c tally) amplification() float64 {
	return float64(c.sent) / float64(c.asked) * float64(c.arrived) / float64(c.journeys)
}

// storm is a mesh in which inventory is slow for ten seconds, and what is counted
// of it.
type storm struct {
	begin time.Time
	turn  atomic.Int64 // of the catalogs

	mu                   sync.Mutex
	free                 [4]time.Time // inventory's slots
	before, fault, after tally
	offered, good        [int(stormEnd / time.Second)]int
}

// count adds one to a count of now.
func (s *storm) count(of func(*tally) *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := &s.after
	switch at := time.Since(s.begin); {
	case at < faultFrom:
		now = &s.before
	case at < faultTo:
		now = &s.fault
	}
	*of(now)++
}

// recovery is the time from the end of the fault until nine in ten people of
// each second are served again; false when that never is.
func (s *storm) recovery() (time.Duration, bool) {
	for i := len(s.good) - 1; i >= int(faultTo/time.Second); i-- {
		if 10*s.good[i] < 9*s.offered[i] {
			return time.Duration(i+1)*time.Second - faultTo, i+1 < len(s.good)
		}
	}
	return 0, true
}

// inventory has 4 slots of 50 ms, 200 during the fault, and does all work that
// comes in, in order.
func (s *storm) inventory(ctx context.Context) error {
	s.count(func(c *tally) *int { return &c.sent })
	s.mu.Lock()
	now, first := time.Now(), 0
	for i, at := range s.free {
		if at.Before(s.free[first]) {
			first = i
		}
	}
	takes := 50 * time.Millisecond
	if at := now.Sub(s.begin); at >= faultFrom && at < faultTo {
		takes *= 4
	}
	start := now
	if s.free[first].After(now) {
		start = s.free[first]
	}
	s.free[first] = start.Add(takes)
	wait := time.NewTimer(s.free[first].Sub(now))
	s.mu.Unlock()
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// catalog asks inventory once for all who want the same show at the same time.
type catalog struct {
	hop
	*storm
	mu    sync.Mutex
	under map[int]*question
}

type question struct {
	ended   chan struct{}
	err     error
	retries *attempt.Shared
}

func (c *catalog) seatMap(ctx context.Context, show int) error {
	c.count(func(c *tally) *int { return &c.arrived })
	c.mu.Lock()
	q := c.under[show]
	if q == nil {
		q = &question{ended: make(chan struct{})}
		c.under[show] = q
		var shared context.Context
		shared, q.retries = attempt.Share(context.WithoutCancel(ctx))
		go func() {
			c.count(func(c *tally) *int { return &c.asked })
			shared, cancel := context.WithTimeout(shared, 2*time.Second)
			defer cancel()
			q.err = c.call(shared, "inventory", inventoryv1.InventoryService_GetAvailability_FullMethodName, c.inventory)
			c.mu.Lock()
			delete(c.under, show)
			c.mu.Unlock()
			close(q.ended)
		}()
	}
	c.mu.Unlock()
	select {
	case <-q.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if q.err != nil {
		q.retries.Tell(ctx)
	}
	return q.err
}

// run is the whole of it, in virtual time.
func (s *storm) run(t *testing.T, mode string, seed uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.begin = time.Now()
		gateways := [2]hop{newHop(t, mode, "1200ms"), newHop(t, mode, "1200ms")}
		var catalogs [4]*catalog
		for i := range catalogs {
			catalogs[i] = &catalog{hop: newHop(t, mode, "300ms"), storm: s, under: make(map[int]*question)}
		}
		var all sync.WaitGroup
		draw, turn := rand.New(rand.NewPCG(seed, 2)), 0
		for at := time.Duration(0); ; {
			at += time.Duration(draw.ExpFloat64() / people * float64(time.Second))
			if at >= stormEnd {
				break
			}
			time.Sleep(time.Until(s.begin.Add(at))) // virtual: until the next person comes
			show, gateway := draw.IntN(stormShows), gateways[turn%2]
			turn++
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				err := gateway.call(ctx, "session", sessionv1.SessionService_Touch_FullMethodName, func(context.Context) error { return nil })
				if err == nil {
					s.count(func(c *tally) *int { return &c.journeys })
					err = gateway.call(ctx, "catalog", catalogv1.CatalogService_GetSeatMap_FullMethodName, func(ctx context.Context) error {
						return catalogs[s.turn.Add(1)%int64(len(catalogs))].seatMap(ctx, show)
					})
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				s.offered[at/time.Second]++
				if err == nil {
					s.good[at/time.Second]++
				}
			})
		}
		all.Wait()
	})
}

// TestWhatTenSlowSecondsLeave is the arithmetic of docs/scenarios/retry-storm.md
// with the retries that services have: inventory answers 80 calls a second, and
// 20 of those that come in during its slow seconds.
func TestWhatTenSlowSecondsLeave(t *testing.T) {
	for seed := range uint64(2) {
		var s storm
		s.run(t, Budget, seed)
		// All work that came in is done, by 80 - 47 a second: never soon, and in the end.
		if after, over := s.recovery(); !over || after < 25*time.Second || after > 50*time.Second {
			t.Errorf("seed %d, budget: over %v after %v, want 25s to 50s", seed, over, after)
		}
		if s.before.amplification() != 1 || s.fault.amplification() > 1.2 || s.after.amplification() > 1.1 {
			t.Errorf("seed %d, budget: %.3f attempts of each call before the fault, %.3f in it, %.3f after it; want 1, at most 1.2 and at most 1.1",
				seed, s.before.amplification(), s.fault.amplification(), s.after.amplification())
		}
		// Catalog has decided, for whoever waited: the gateway sends nothing again.
		if s.fault.arrived != s.fault.journeys {
			t.Errorf("seed %d, budget: %d calls became %d attempts at catalog", seed, s.fault.journeys, s.fault.arrived)
		}
	}
	var s storm
	s.run(t, Naive, 0)
	if after, over := s.recovery(); over || s.fault.amplification() < 4 {
		t.Errorf("naive: over %v after %v, %.3f attempts of each call in the fault; want never, and 4 or more", over, after, s.fault.amplification())
	}
}

package bulkhead

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// retryAfter is what a refused caller is told: about how long a place takes to become free is not known here.
const retryAfter = 100 * time.Millisecond

// Bulkheads are the bulkheads of a process, one for each callee. Safe for concurrent use.
type Bulkheads struct {
	set     *knobs.Set
	mode    *knobs.Choice
	refused *refusal.Counter

	mu      sync.Mutex
	callees map[string]*Bulkhead
}

// New declares bulkhead.mode in set and registers the metrics with reg. Bulkheads are off until it is on.
func New(set *knobs.Set, refused *refusal.Counter, reg prometheus.Registerer) (*Bulkheads, error) {
	b := &Bulkheads{
		set: set, refused: refused,
		mode:    set.Choice("bulkhead.mode", "off", []string{"off", "on"}, "whether calls under way to one callee are bounded"),
		callees: map[string]*Bulkhead{},
	}
	if err := reg.Register(inFlight{b}); err != nil {
		return nil, fmt.Errorf("bulkhead: %w", err)
	}
	return b, nil
}

// For returns the bulkhead of callee, a name in the mesh: always the same one. The first time it declares
// bulkhead.<callee>.limit.
func (b *Bulkheads) For(callee string) *Bulkhead {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, known := b.callees[callee]; known {
		return c
	}
	c := &Bulkhead{mode: b.mode, refused: b.refused.Outbound("bulkhead", callee),
		limit: b.set.Int("bulkhead."+callee+".limit", 100, 1, 100_000, "calls to "+callee+" that a replica may have under way at the same time"),
		no:    refusal.Overloaded("bulkhead", retryAfter, "too many calls to "+callee+" are under way; try again in a moment"),
	}
	b.callees[callee] = c
	return c
}

// Bulkhead bounds the calls to one callee. Its interceptors are safe for concurrent use.
type Bulkhead struct {
	mode    *knobs.Choice
	limit   *knobs.Int
	refused *refusal.By
	no      *problem.Problem
	places  places
}

// places counts the calls under way. It is a number and not a semaphore of a fixed size: the limit is a knob, and calls
// under way when it moves count against the new one.
type places struct{ taken atomic.Int64 }

// enter takes a place, unless limit or more are taken.
func (p *places) enter(limit int64) bool {
	for {
		taken := p.taken.Load()
		if taken >= limit {
			return false
		}
		if p.taken.CompareAndSwap(taken, taken+1) {
			return true
		}
	}
}

func (p *places) leave() { p.taken.Add(-1) }

func (b *Bulkhead) off() bool { return b.mode.Get() == "off" }

func (b *Bulkhead) refuse(ctx context.Context) error {
	b.refused.Count(ctx)
	return b.no
}

// Unary is the interceptor of unary calls. What finds no place fails with OVERLOADED.
func (b *Bulkhead) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if b.off() {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	if !b.places.enter(b.limit.Get()) {
		return b.refuse(ctx)
	}
	defer b.places.leave()
	return invoker(ctx, method, req, reply, cc, opts...)
}

// Stream is the interceptor of streams. A stream has its place until it ends.
func (b *Bulkhead) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if b.off() {
		return streamer(ctx, desc, cc, method, opts...)
	}
	if !b.places.enter(b.limit.Get()) {
		return nil, b.refuse(ctx)
	}
	leave := sync.OnceFunc(b.places.leave)
	begun := false
	defer func() {
		if !begun { // also when streamer panics
			leave()
		}
	}()
	stream, err := streamer(ctx, desc, cc, method, append(opts[:len(opts):len(opts)], grpc.OnFinish(func(error) { leave() }))...)
	begun = err == nil
	return stream, err
}

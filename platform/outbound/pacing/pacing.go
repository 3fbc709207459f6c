package pacing

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/gcra"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/breaker"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// What pacing.mode may be.
const (
	off     = "off"
	replica = "replica" // each replica paces at the whole rate
	share   = "share"   // each at its part of it
	global  = "global"  // all of them together, in Redis
)

// Pacers are the pacers of a process, one for each callee. Safe for concurrent use.
type Pacers struct {
	set     *knobs.Set
	mode    *knobs.Choice
	maxWait *knobs.Duration
	refused *refusal.Counter
	waits   *prometheus.HistogramVec

	mu      sync.Mutex
	callees map[string]*Pacer
}

// New declares pacing.mode and pacing.max_wait in set and registers the metrics with reg. Nothing is paced until the
// mode is another than off. set also tells how many replicas the service has.
func New(set *knobs.Set, refused *refusal.Counter, reg prometheus.Registerer) (*Pacers, error) {
	p := &Pacers{
		set: set, refused: refused, callees: map[string]*Pacer{},
		mode:    set.Choice("pacing.mode", off, []string{off, replica, share, global}, "whose calls pacing.<callee>.per_second is for: each replica's, all replicas' by even shares, or all replicas' counted together in Redis"),
		maxWait: set.Duration("pacing.max_wait", time.Second, 0, time.Minute, "the longest that a call waits for its turn; one that would wait longer is refused at once"),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "spillway_pacing_wait_seconds",
			Help:    "Time that calls to a callee waited for their turn; refused calls are not in it.",
			Buckets: []float64{0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}, []string{"callee"}),
	}
	for _, collector := range []prometheus.Collector{p.waits, rates{p}} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("pacing: %w", err)
		}
	}
	return p, nil
}

// For returns the pacer of callee, a name in the mesh: always the same one. The first time it declares
// pacing.<callee>.per_second.
func (p *Pacers) For(callee string) *Pacer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, known := p.callees[callee]; known {
		return c
	}
	c := &Pacer{
		all: p, begin: time.Now(), refused: p.refused.Outbound("pacing", callee), turn: make(chan struct{}, 1),
		wait:      p.waits.WithLabelValues(callee),
		perSecond: p.set.Float("pacing."+callee+".per_second", 0, 0, 1e6, "calls to "+callee+" a second, as pacing.mode says; 0 paces none"),
		no:        refusal.Overloaded("pacing", 0, "a turn to call "+callee+" does not come in time; try again later"),
	}
	p.callees[callee] = c
	return c
}

// Pacer paces the calls to one callee. Its interceptors are safe for concurrent use.
type Pacer struct {
	all       *Pacers
	perSecond *knobs.Float
	refused   *refusal.By
	wait      prometheus.Observer
	no        *problem.Problem
	begin     time.Time // what times count from

	mu  sync.Mutex
	own schedule

	only     atomic.Pointer[map[string]bool] // nil: all methods
	together atomic.Pointer[Together]
	turn     chan struct{} // full: somebody asks Together
	line     atomic.Int64  // calls that ask it or wait to
}

// Together lets a call in if all replicas' calls allow it by limit, and then charges the limit. With wait 0 the call is
// let in; otherwise it would be after wait, if no other came.
type Together func(ctx context.Context, limit gcra.Limit) (wait time.Duration)

// Together says by what mode global counts. Without it that mode is the same as share.
func (p *Pacer) Together(t Together) { p.together.Store(&t) }

// Only says which of the callee's methods count against its quota, by their full names; calls of others are not paced.
// Without it all are.
func (p *Pacer) Only(methods ...string) {
	only := make(map[string]bool, len(methods))
	for _, method := range methods {
		only[method] = true
	}
	p.only.Store(&only)
}

// Unary is the interceptor of unary calls. What cannot have its turn in time fails with OVERLOADED.
func (p *Pacer) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if mode := p.all.mode.Get(); mode != off {
		if err := p.pace(ctx, mode, method); err != nil {
			return err
		}
	}
	return invoker(ctx, method, req, reply, cc, opts...)
}

// Stream is the interceptor of streams: the beginning of one takes a turn.
func (p *Pacer) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if mode := p.all.mode.Get(); mode != off {
		if err := p.pace(ctx, mode, method); err != nil {
			return nil, err
		}
	}
	return streamer(ctx, desc, cc, method, opts...)
}

// pace waits for the call's turn, or fails at once when that would be too late.
func (p *Pacer) pace(ctx context.Context, mode, method string) error {
	rate := p.perSecond.Get()
	if rate <= 0 {
		return nil
	}
	if only := p.only.Load(); only != nil && !(*only)[method] {
		return nil
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	begun := time.Now()
	patience := p.all.maxWait.Get()
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, deadline.Sub(begun)-1) // a turn at the deadline is too late
	}
	var err error
	if together := p.together.Load(); mode == global && together != nil {
		err = p.ask(ctx, *together, gcra.PerSecond(rate, rate*togetherBurst.Seconds()), patience)
	} else {
		err = p.reserve(ctx, begun, p.all.interval(mode, rate), patience)
	}
	if err == nil {
		waited := time.Since(begun)
		p.wait.Observe(waited.Seconds())
		breaker.Waited(ctx, waited)
	}
	return err
}

// interval is the time between two calls of this replica in a mode that needs no Redis, rounded up: all replicas
// together never come to more than the rate.
func (p *Pacers) interval(mode string, rate float64) time.Duration {
	n := 1
	if mode != replica {
		n = max(p.set.Replicas(), 1)
	}
	return gcra.PerSecond(rate/float64(n), 1).Interval
}

// reserve waits for a turn of this replica's own schedule.
func (p *Pacer) reserve(ctx context.Context, begun time.Time, interval, patience time.Duration) error {
	now := begun.Sub(p.begin)
	p.mu.Lock()
	at, ok := p.own.reserve(now, interval, now+patience)
	p.mu.Unlock()
	if !ok {
		return p.refuse(ctx, at-now)
	}
	return sleep(ctx, at-now)
}

// togetherBurst is how far ahead of the rate all replicas together may be: nothing is lost then when a turn is taken a
// little late because its call was on its way to Redis.
const togetherBurst = 100 * time.Millisecond

// ask waits until all replicas' calls leave room. One call of a replica asks at a time, those behind it wait in the order
// in which they came: Redis is asked no more than is of use.
func (p *Pacer) ask(ctx context.Context, together Together, limit gcra.Limit, patience time.Duration) error {
	ahead := p.line.Add(1) - 1
	defer p.line.Add(-1)
	// Each of those ahead needs a turn of its own; that other replicas want turns too is not counted.
	if least := time.Duration(min(float64(ahead)*float64(limit.Interval)-float64(limit.Tolerance), math.MaxInt64/2)); least > patience {
		return p.refuse(ctx, least)
	}
	over := time.NewTimer(max(patience, 0))
	defer over.Stop()
	latest := time.Now().Add(patience)
	select {
	case p.turn <- struct{}{}:
	default:
		select {
		case p.turn <- struct{}{}:
		case <-over.C:
			return p.refuse(ctx, time.Duration(ahead+1)*limit.Interval)
		case <-ctx.Done():
			return ended(ctx)
		}
	}
	defer func() { <-p.turn }()
	for {
		wait := together(ctx, limit)
		if wait <= 0 {
			return nil
		}
		if time.Now().Add(wait).After(latest) {
			return p.refuse(ctx, wait)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (p *Pacer) refuse(ctx context.Context, wait time.Duration) error {
	p.refused.Count(ctx)
	return p.no.Retry(wait)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

func ended(ctx context.Context) error { return status.FromContextError(ctx.Err()).Err() }

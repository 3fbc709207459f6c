package concurrency

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// The modes.
const (
	modeOff      = "off"
	modeAdaptive = "adaptive"
	modeAIMD     = "aimd"
)

// unknownSlots stands for the slots of a replica without a model.
const unknownSlots = 10

// answer is what refused calls get.
var answer = refusal.Overloaded("concurrency", 250*time.Millisecond, "as many calls are in flight as this replica serves well; try later")

// Limiter limits the calls in flight of one replica. It is safe for concurrent use.
type Limiter struct {
	mode    *knobs.Choice
	target  *knobs.Duration
	slots   int
	wait    func(now time.Time) time.Duration
	refused *refusal.By
	gate    atomic.Pointer[gate] // nil when off
}

// New returns a limiter. It declares the knobs concurrency.mode and concurrency.target in set; with the first at its
// default, off, every call passes. The limit begins at twice the slots of station; nil stands for a replica without a
// model, which is given ten. wait tells for how long a call that came at now would wait for a slot; it is called by
// any goroutine.
func New(set *knobs.Set, reg prometheus.Registerer, refused *refusal.Counter, station *capacity.Station, wait func(now time.Time) time.Duration) (*Limiter, error) {
	l := &Limiter{
		mode: set.Choice("concurrency.mode", modeOff, []string{modeOff, modeAdaptive, modeAIMD},
			"calls in flight are limited: off, by how long calls take, or by the wait for a slot"),
		target: set.Duration("concurrency.target", 20*time.Millisecond, time.Millisecond, 10*time.Second,
			"aimd: the wait for a slot above which the limit falls"),
		slots:   unknownSlots,
		wait:    wait,
		refused: refused.Inbound("concurrency"),
	}
	if station != nil {
		l.slots = station.Slots()
	}
	l.mode.OnChange(func(mode string) { l.gate.Store(newGate(mode, l.slots)) })
	for _, g := range []prometheus.GaugeFunc{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "spillway_concurrency_limit", Help: "Calls that may be in flight, of the most urgent class; 0 when there is no limit.",
		}, func() float64 { limit, _ := l.state(); return float64(limit) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "spillway_concurrency_in_flight", Help: "Calls in flight that the limit counts; 0 when there is no limit.",
		}, func() float64 { _, inFlight := l.state(); return float64(inFlight) }),
	} {
		if err := reg.Register(g); err != nil {
			return nil, fmt.Errorf("register the metrics of concurrency: %w", err)
		}
	}
	return l, nil
}

func (l *Limiter) state() (limit, inFlight int) {
	g := l.gate.Load()
	if g == nil {
		return 0, 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit(), g.inFlight
}

// gate is the limit from one change of the mode to the next. It counts the calls that began under it; those that were
// under way before are not known to it.
type gate struct {
	mu       sync.Mutex
	inFlight int
	aimd     *aimd                                // nil in mode adaptive
	adaptive adaptivelimiter.AdaptiveLimiter[any] // nil in mode aimd
}

func newGate(mode string, slots int) *gate {
	switch mode {
	case modeAdaptive:
		return &gate{adaptive: newAdaptive(beginning(slots))}
	case modeAIMD:
		return &gate{aimd: newAIMD(beginning(slots))}
	}
	return nil
}

// newAdaptive is the library's limiter with windows for services of tens of milliseconds. With its own (looks every second,
// an average that forgets in ten of them what is normal, limits of up to five times what was in use) it took overload for
// normal where calls are cut off by their deadline: with 3 slots of 100 ms, deadlines of 1 s and twice the load that they can
// serve, goodput fell to nothing within two minutes. With these it stays above 0.9 of the capacity.
func newAdaptive(limit int) adaptivelimiter.AdaptiveLimiter[any] {
	return adaptivelimiter.NewBuilder[any]().
		WithLimits(lowest, highest, uint(limit)).
		WithMaxLimitFactor(2).
		WithRecentWindow(250*time.Millisecond, 5*time.Second, 20).
		WithBaselineWindow(400).
		Build()
}

// limit is the limit of the most urgent class. Of the library's it is 5 ÷ 4: see admit.
func (g *gate) limit() int {
	if g.adaptive != nil {
		return (g.adaptive.Limit()*100 + shares[criticality.Sheddable] - 1) / shares[criticality.Sheddable]
	}
	return int(g.aimd.limit)
}

// admit lets a call in, or does not.
//
// The library finds a limit by watching what happens when it is reached; were a class kept below it, a load of that class
// alone would never reach it, and the limit would rise without end. So the share of the least urgent class is the library's
// limit, and more urgent calls that go beyond it are none of its business: they get no permit of it.
func (g *gate) admit(class criticality.Class, now time.Time, wait, target time.Duration) (p pass, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.aimd != nil {
		g.aimd.arrive(now, wait, target, g.inFlight+1)
	}
	if g.inFlight >= room(class, g.limit()) {
		return pass{}, false
	}
	p.gate = g
	if g.adaptive != nil {
		p.permit, _ = g.adaptive.TryAcquirePermit()
	}
	g.inFlight++
	return p, true
}

// pass is one call's place among those in flight.
type pass struct {
	gate   *gate
	permit adaptivelimiter.Permit // nil without one of the library
}

// end gives the place back; err is how the call ended.
func (p pass) end(err error) {
	if p.permit != nil {
		if telling(err) {
			p.permit.Record()
		} else {
			p.permit.Drop()
		}
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.gate.inFlight--
}

// telling says whether the time that a call took says anything about the replica's load. That of a refused call does not,
// nor does that of one whose caller gave up; one whose deadline passed took at least that long.
func telling(err error) bool {
	if err == nil {
		return true
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	p := problem.From(err)
	return p.Code != codes.Canceled && p.Code != codes.ResourceExhausted && p.Reason != problem.DeadlineTooShort
}

// enter lets a call in, or gives the answer of one that is refused. Its first result is nil when there is no limit.
func (l *Limiter) enter(ctx context.Context) (pass, error) {
	g := l.gate.Load()
	if g == nil {
		return pass{}, nil
	}
	var now time.Time
	var wait time.Duration
	if g.aimd != nil {
		now = time.Now()
		wait = l.wait(now)
	}
	class, _ := criticality.From(ctx)
	p, ok := g.admit(class, now, wait, l.target.Get())
	if !ok {
		l.refused.Count(ctx)
		return pass{}, answer
	}
	return p, nil
}

// Unary is the interceptor of unary calls.
func (l *Limiter) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	p, err := l.enter(ctx)
	switch {
	case err != nil:
		return nil, err
	case p.gate == nil:
		return handler(ctx, req)
	}
	defer func() { p.end(err) }()
	return handler(ctx, req)
}

// Stream is the interceptor of streams, which are in flight until they end.
func (l *Limiter) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	p, err := l.enter(ss.Context())
	switch {
	case err != nil:
		return err
	case p.gate == nil:
		return handler(srv, ss)
	}
	defer func() { p.end(err) }()
	return handler(srv, ss)
}

package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/telemetry"
)

// retryAfter is what refused calls are told to wait: long against the time in which a full line is served.
const retryAfter = 250 * time.Millisecond

// answers are what refused calls get, by verdict.
var answers = [...]error{
	full:  refusal.Overloaded("queue", retryAfter, "as many calls wait as may; try later"),
	late:  refusal.Overloaded("queue", retryAfter, "too many calls wait for this one to be answered in its time; give more time, or try later"),
	stale: refusal.Overloaded("queue", retryAfter, "more calls come than can be served, and this one has waited for long; try later"),
}

// Queue is the line in front of one replica's slots. It is safe for concurrent use.
type Queue struct {
	mode    *knobs.Choice
	limit   *knobs.Int
	station *capacity.Station
	refused *refusal.By
	waited  prometheus.Histogram

	mu   sync.Mutex
	line line
}

// New returns a queue in front of station, whose number of slots is how many calls are past it at a time. It declares the
// knobs queue.mode and queue.limit in set; with the first at its default, off, the queue lets every call pass. station may
// be nil, for a replica without a model, and every call passes.
func New(set *knobs.Set, reg prometheus.Registerer, refused *refusal.Counter, station *capacity.Station) (*Queue, error) {
	q := &Queue{
		mode: set.Choice("queue.mode", string(off), []string{string(off), string(fifo), string(newestFirst)},
			"calls wait in line in front of the slots: off, in the order in which they came, or newest first under overload"),
		limit:   set.Int("queue.limit", 100, 1, 100_000, "calls that may wait in line; more are refused"),
		station: station,
		refused: refused.Inbound("queue"),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "spillway_queue_wait_seconds",
			Help:    "Time that calls which got their turn waited in line; 0 for those that did not have to.",
			Buckets: []float64{0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}),
		line: line{mode: off},
	}
	if station != nil {
		q.line.slots = station.Slots()
		q.mode.OnChange(q.change)
	}
	length := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spillway_queue_length", Help: "Calls that wait in line in front of the slots.",
	}, func() float64 { return float64(q.length()) })
	for _, c := range []prometheus.Collector{q.waited, length} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the queue: %w", err)
		}
	}
	return q, nil
}

// change makes another discipline the one in force. When there is to be no line any more, nobody is left in it.
func (q *Queue) change(to string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.line.mode = mode(to)
	if q.line.mode == off {
		for c := q.line.release(); c != nil; c = q.line.release() {
			c.told <- passes
		}
	}
}

func (q *Queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.line.length
}

// Wait is how long the call has waited that has waited for longest; 0 when none waits.
func (q *Queue) Wait(now time.Time) time.Duration {
	if q.mode.Get() == string(off) {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.line.headWait(now)
}

// enter waits for a call's turn. It returns the call, nil when there is no line, or the answer of one that is refused, or
// ctx's error when that ends first.
func (q *Queue) enter(ctx context.Context) (*call, error) {
	class, _ := criticality.From(ctx)
	deadline, _ := ctx.Deadline()
	now, service := time.Now(), q.station.ServiceTime()
	c := &call{class: min(class, criticality.Classes-1), arrived: telemetry.Arrival(ctx), entered: now, deadline: deadline}

	q.mu.Lock()
	if q.line.mode == off {
		q.mu.Unlock()
		return nil, nil
	}
	v, dropped := q.line.arrive(now, c, int(q.limit.Get()), service)
	var patience time.Duration
	if v == waits {
		c.told = make(chan verdict, 1)
		patience = q.line.patience(now, service)
	}
	if dropped != nil {
		dropped.told <- stale
	}
	q.mu.Unlock()

	if v == waits {
		var err error
		if v, err = q.await(ctx, c, patience); err != nil {
			return nil, err
		}
	}
	if v != passes {
		q.refused.Count(ctx)
		return nil, answers[v]
	}
	waited := time.Duration(0)
	if c.told != nil {
		waited = time.Since(c.entered)
	}
	q.waited.Observe(waited.Seconds())
	return c, nil
}

// await waits until a call is told what becomes of it, its patience (if any) is over, or ctx ends.
func (q *Queue) await(ctx context.Context, c *call, patience time.Duration) (verdict, error) {
	var over <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case v := <-c.told:
		return v, nil
	case <-over:
		if q.withdraw(c) {
			return stale, nil
		}
		return <-c.told, nil // it was told in the meantime
	case <-ctx.Done():
		if !q.withdraw(c) {
			q.leave(c, time.Now()) // its turn came too late for it
		}
		return waits, ctx.Err()
	}
}

// withdraw takes a call off the line and tells whether it was on it.
func (q *Queue) withdraw(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.line.remove(c)
}

// leave notes that a call holds its slot no more, which was free at freed, and tells those whose turn it is. Only the
// first time counts.
func (q *Queue) leave(c *call, freed time.Time) {
	service := q.station.ServiceTime()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.line.leave(c)
	for {
		next, v := q.line.next(time.Now(), freed, service)
		if next == nil {
			return
		}
		next.told <- v
	}
}

// key is the context key of the call that is past the line.
type key struct{}

// Leave says that the call of ctx holds its slot no more, whatever its handler still does, and was late in noticing
// (capacity.Visit.Lateness): the slot is the next one's. The entry of the chain that spends the slot calls it.
func (q *Queue) Leave(ctx context.Context, late time.Duration) {
	if q.mode.Get() == string(off) {
		return
	}
	if c, ok := ctx.Value(key{}).(*call); ok {
		q.leave(c, time.Now().Add(-late))
	}
}

// Unary is the interceptor of unary calls.
func (q *Queue) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if q.station == nil || q.mode.Get() == string(off) {
		return handler(ctx, req)
	}
	c, err := q.enter(ctx)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return handler(ctx, req)
	}
	defer func() { q.leave(c, time.Now()) }()
	return handler(context.WithValue(ctx, key{}, c), req)
}

// Stream is the interceptor of streams: each waits its turn once.
func (q *Queue) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if q.station == nil || q.mode.Get() == string(off) {
		return handler(srv, ss)
	}
	c, err := q.enter(ss.Context())
	switch {
	case err != nil:
		return err
	case c == nil:
		return handler(srv, ss)
	}
	defer func() { q.leave(c, time.Now()) }()
	return handler(srv, inTurn{ss, context.WithValue(ss.Context(), key{}, c)})
}

type inTurn struct {
	grpc.ServerStream
	ctx context.Context
}

func (s inTurn) Context() context.Context { return s.ctx }

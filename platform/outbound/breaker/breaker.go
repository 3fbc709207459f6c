package breaker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

const (
	// window is how long a call's outcome counts, in steps of a tenth.
	window = 10 * time.Second
	// minimumCalls are how many calls of the window there must be before a breaker may open: of fewer, chance alone
	// makes half fail.
	minimumCalls = 20
	// probes are the calls that a half-open breaker lets through, and all of them must succeed.
	probes = 5
)

// Breakers are the breakers of a process, one for each callee. Safe for concurrent use.
type Breakers struct {
	mode    *knobs.Choice
	ratio   *knobs.Float
	slow    *knobs.Duration
	openFor *knobs.Duration

	refused     *refusal.Counter
	transitions *prometheus.CounterVec

	mu      sync.Mutex
	callees map[string]*Breaker
}

// New declares the knobs in set and registers the metrics with reg. All breakers are off until breaker.mode is on.
func New(set *knobs.Set, refused *refusal.Counter, reg prometheus.Registerer) (*Breakers, error) {
	b := &Breakers{
		mode:    set.Choice("breaker.mode", "off", []string{"off", "on"}, "whether calls to a callee that fails or is slow are stopped"),
		ratio:   set.Float("breaker.failure_ratio", 0.5, 0.01, 1, "share of the last 10 s' calls to a callee that must fail, slow ones included, for its breaker to open"),
		slow:    set.Duration("breaker.slow_call", time.Second, time.Millisecond, 10*time.Minute, "a call that takes as long counts as failed"),
		openFor: set.Duration("breaker.open_for", 5*time.Second, 10*time.Millisecond, 10*time.Minute, "how long an open breaker lets nothing through"),
		refused: refused,
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_breaker_transitions_total",
			Help: "Changes of a circuit breaker's state, by callee and the state that it went to.",
		}, []string{"callee", "to"}),
		callees: map[string]*Breaker{},
	}
	for _, collector := range []prometheus.Collector{b.transitions, states{b}} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("breaker: %w", err)
		}
	}
	// failure_ratio and slow_call are read at every call; the other two are part of a breaker.
	b.mode.OnChange(func(string) { b.renew() })
	b.openFor.OnChange(func(time.Duration) { b.renew() })
	return b, nil
}

// For returns the breaker of callee, a name in the mesh: always the same one.
func (b *Breakers) For(callee string) *Breaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, known := b.callees[callee]; known {
		return c
	}
	c := &Breaker{all: b, callee: callee, refused: b.refused.Outbound("breaker", callee),
		no: problem.New(codes.Unavailable, problem.BreakerOpen, "calls to %s are stopped for a while, most of the last ones failed or were slow", callee).With("dependency", callee)}
	b.callees[callee] = c
	c.renew()
	return c
}

func (b *Breakers) renew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.callees {
		c.renew()
	}
}

// Breaker is the breaker of one callee. Its interceptors are safe for concurrent use.
type Breaker struct {
	all     *Breakers
	callee  string
	refused *refusal.By
	no      *problem.Problem
	current atomic.Pointer[circuit] // nil: off
}

// circuit is a breaker between two changes of its knobs. Calls that began under it report to it, also when it is not
// the current one any more.
type circuit struct {
	*gobreaker.TwoStepCircuitBreaker[struct{}]
	until atomic.Int64 // unix nanoseconds at which it stops being open, as last opened
}

// Outcomes as gobreaker is told of them.
var (
	errAiling  = errors.New("the callee is not well")
	errNothing = errors.New("the call says nothing about the callee")
)

// renew begins anew, closed, according to the knobs. Breakers.mu is held.
func (c *Breaker) renew() {
	if c.all.mode.Get() == "off" {
		c.current.Store(nil)
		return
	}
	now, openFor := &circuit{}, c.all.openFor.Get()
	now.TwoStepCircuitBreaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  probes,
		Interval:     window,
		BucketPeriod: window / 10,
		Timeout:      openFor,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return tripped(n.TotalSuccesses, n.TotalFailures, c.all.ratio.Get())
		},
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return err == errNothing },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				now.until.Store(time.Now().Add(openFor).UnixNano())
			}
			c.all.transitions.WithLabelValues(c.callee, to.String()).Inc()
		},
	})
	c.current.Store(now)
}

// refuse answers a call that may not pass.
func (c *Breaker) refuse(ctx context.Context, now *circuit, why error) error {
	c.refused.Count(ctx)
	if errors.Is(why, gobreaker.ErrOpenState) {
		return c.no.Retry(time.Until(time.Unix(0, now.until.Load())))
	}
	return c.no.Retry(c.all.slow.Get()) // the probes that are under way have answered by then, or failed
}

// call is the context of a call that passes: it knows how much of its time was spent on this side.
type call struct {
	context.Context
	begun  time.Time
	waited atomic.Int64
}

type callKey struct{}

func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// Waited takes d off the time of the call in ctx, if a breaker measures it: it was spent waiting on this side, before
// the call left, and says nothing about the callee.
func Waited(ctx context.Context, d time.Duration) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.waited.Add(int64(d))
	}
}

// Unary is the interceptor of unary calls. What may not pass fails with BREAKER_OPEN, UNAVAILABLE, and the time until
// probes are let through.
func (c *Breaker) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) (err error) {
	now := c.current.Load()
	if now == nil {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	done, why := now.Allow()
	if why != nil {
		return c.refuse(ctx, now, why)
	}
	measured := &call{Context: ctx, begun: time.Now()}
	panicked := true
	defer func() {
		if panicked { // this process's fault
			done(errNothing)
			return
		}
		took := time.Since(measured.begun) - time.Duration(measured.waited.Load())
		report(done, judge(err, took, c.all.slow.Get()))
	}()
	err = invoker(measured, method, req, reply, cc, opts...)
	panicked = false
	return err
}

// Stream is the interceptor of streams. A stream counts when it ends; how long it took says nothing.
func (c *Breaker) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	now := c.current.Load()
	if now == nil {
		return streamer(ctx, desc, cc, method, opts...)
	}
	done, why := now.Allow()
	if why != nil {
		return nil, c.refuse(ctx, now, why)
	}
	var once sync.Once
	end := func(v verdict) { once.Do(func() { report(done, v) }) }
	begun := false
	defer func() {
		if !begun {
			end(nothing) // by panic: this process's fault
		}
	}()
	stream, err := streamer(ctx, desc, cc, method, append(opts[:len(opts):len(opts)],
		grpc.OnFinish(func(err error) { end(judge(err, 0, 0)) }))...)
	begun = true
	if err != nil { // refused before gRPC heard of it
		end(judge(err, 0, 0))
	}
	return stream, err
}

func report(done func(error), v verdict) {
	switch v {
	case well:
		done(nil)
	case ailing:
		done(errAiling)
	default:
		done(errNothing)
	}
}

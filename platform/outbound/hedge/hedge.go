// Package hedge sends a read a second time when the first has not been answered
// for a while, takes the answer that comes first and gives up the other (J. Dean
// and L. Barroso, "The Tail at Scale", CACM 56(2), 2013, "Hedged requests").
//
// It is for slowness of single replicas, not of all: what it sends twice is
// bounded by the budget that retries have too.
package hedge

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/attempt"
	"spillway.dev/platform/outbound/budget"
	"spillway.dev/platform/outbound/idempotency"
)

// Policy hedges calls. Safe for concurrent use.
type Policy struct {
	mode      *knobs.Choice
	delay     *knobs.Duration
	contract  *idempotency.Contract
	budget    *budget.Budget
	sent, won *prometheus.CounterVec
}

// New declares the knobs hedge.mode and hedge.delay, and registers the count of
// hedges with reg.
func New(set *knobs.Set, contract *idempotency.Contract, shared *budget.Budget, reg prometheus.Registerer) (*Policy, error) {
	p := &Policy{
		mode: set.Choice("hedge.mode", "off", []string{"off", "on"}, "Whether a read that is not answered in time is sent to another replica too."),
		delay: set.Duration("hedge.delay", 50*time.Millisecond, time.Millisecond, 10*time.Second,
			"How long a read may wait before it is sent a second time; near the 95th percentile of its latency."),
		contract: contract, budget: shared,
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_hedges_sent_total",
			Help: "Reads sent a second time because the first was not answered in time."}, []string{"callee"}),
		won: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_hedges_won_total",
			Help: "Reads sent a second time of which the second was answered first."}, []string{"callee"}),
	}
	for _, c := range []prometheus.Collector{p.sent, p.won} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the count of hedges: %w", err)
		}
	}
	return p, nil
}

// For is the policy for calls to callee, a name in the mesh.
func (p *Policy) For(callee string) *Caller {
	return &Caller{
		Policy: p, spender: p.budget.For(callee).Spender("hedge"),
		sent: p.sent.WithLabelValues(callee), won: p.won.WithLabelValues(callee),
	}
}

// Caller hedges calls to one callee. Safe for concurrent use.
type Caller struct {
	*Policy
	spender   *budget.Spender
	sent, won prometheus.Counter
}

// Unary is the interceptor of unary calls. A call that was retried or hedged
// above is not hedged again. When it returns, both attempts have ended.
func (c *Caller) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if c.mode.Get() == "off" || !c.contract.Reads(method) || attempt.Number(ctx) > 1 {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	answer, ok := reply.(proto.Message)
	if !ok {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	first, endFirst := context.WithCancel(ctx)
	defer endFirst()
	var (
		second, endSecond = context.WithCancel(ctx)
		done              = make(chan struct{})
		ahead             = false // the second attempt was answered; read after done
		spare             spare
	)
	defer endSecond()
	timer := time.AfterFunc(c.delay.Get(), func() {
		defer close(done)
		if !c.spender.Spend() {
			return
		}
		c.sent.Inc()
		spare = apart(answer, opts)
		if invoker(attempt.Mark(second, 2), method, req, spare.reply, cc, spare.opts...) == nil {
			ahead = true
			endFirst()
		}
	})
	err := invoker(first, method, req, reply, cc, opts...)
	if timer.Stop() {
		return err // nothing was sent twice
	}
	if err == nil {
		endSecond()
	}
	<-done
	if err == nil || !ahead {
		return err
	}
	c.won.Inc()
	spare.adopt(answer)
	return nil
}

// Stream is the interceptor of streams, which are not hedged: it does nothing.
func (c *Caller) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(ctx, desc, cc, method, opts...)
}

package retry

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/attempt"
	"spillway.dev/platform/outbound/budget"
	"spillway.dev/platform/outbound/idempotency"
	"spillway.dev/platform/problem"
)

// Policy retries calls. Safe for concurrent use. The loop is our own: libraries'
// decide by error alone, and what they offer as a budget bounds what is under
// way and not what is sent (docs/dependencies.md).
type Policy struct {
	mode     *knobs.Choice
	attempts *knobs.Int
	contract *idempotency.Contract
	budget   *budget.Budget
	retries  *prometheus.CounterVec
	log      *slog.Logger
}

// New declares the knobs retry.mode and retry.attempts, and registers the count
// of retries with reg. attempts is the default of the latter: how often a call
// is sent at most, the first time included.
func New(attempts int, set *knobs.Set, contract *idempotency.Contract, shared *budget.Budget, log *slog.Logger, reg prometheus.Registerer) (*Policy, error) {
	p := &Policy{
		mode: set.Choice("retry.mode", Plain, []string{Plain, Budget, Naive},
			"What is sent again: plain, what was away; budget, that and timed-out attempts, bounded and at one layer; naive, all that calls itself retryable."),
		attempts: set.Int("retry.attempts", int64(attempts), 1, 5, "How often a call is sent at most, the first time included."),
		contract: contract, budget: shared, log: log,
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_retries_total",
			Help: "Calls sent again, by the reason for which the attempt before failed."}, []string{"callee", "reason"}),
	}
	if err := reg.Register(p.retries); err != nil {
		return nil, fmt.Errorf("register the count of retries: %w", err)
	}
	return p, nil
}

// For is the policy for calls to callee, a name in the mesh.
func (p *Policy) For(callee string) *Caller {
	account := p.budget.For(callee)
	return &Caller{Policy: p, callee: callee, account: account, spender: account.Spender("retry")}
}

// Caller retries calls to one callee. Safe for concurrent use.
type Caller struct {
	*Policy
	callee  string
	account *budget.Account
	spender *budget.Spender
}

// Unary is the interceptor of unary calls.
func (c *Caller) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	mode := c.mode.Get()
	if mode == Budget {
		return c.bounded(ctx, method, req, reply, cc, invoker, opts...)
	}
	c.account.Earn() // hedges live on it
	err := invoker(ctx, method, req, reply, cc, opts...)
	if err == nil || c.attempts.Get() == 1 || !c.contract.Repeatable(method) {
		return err
	}
	rests := waits()
	for failed := 1; failed < int(c.attempts.Get()) && err != nil; failed++ {
		cause := problem.From(err)
		if !passing(mode, cause) {
			return err
		}
		rest := pause(mode, cause, rests.NextBackOff())
		if !fits(ctx, rest) {
			return err
		}
		if gaveUp := c.rest(ctx, method, failed, cause, rest); gaveUp != nil {
			return gaveUp
		}
		err = invoker(ctx, method, req, reply, cc, opts...)
	}
	return err
}

// bounded is Unary in mode Budget. What tells it from the others is who may not
// retry: a hop that handles a retry itself, and one whose callee has decided
// already.
func (c *Caller) bounded(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if n := attempt.Number(ctx); n > 1 { // whoever sent it has taken it from his budget
		return invoker(attempt.Mark(ctx, n), method, req, reply, cc, opts...)
	}
	c.account.Earn()
	if c.attempts.Get() == 1 || !c.contract.Repeatable(method) {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	var trailer metadata.MD
	opts = append(slices.Clip(opts), grpc.Trailer(&trailer))
	sending, rests := ctx, waits()
	for failed := 1; ; failed++ {
		trailer = nil
		err := invoker(sending, method, req, reply, cc, opts...)
		if err == nil {
			return nil
		}
		cause := problem.From(err)
		if !passing(Budget, cause) {
			if cause.Reason == problem.BreakerOpen {
				attempt.Decide(ctx)
			}
			return err
		}
		rest := pause(Budget, cause, rests.NextBackOff())
		// In this order: a token is taken for nothing but an attempt.
		if attempt.Decided(trailer) || failed >= int(c.attempts.Get()) || !fits(ctx, rest) || !c.spender.Spend() {
			attempt.Decide(ctx)
			return err
		}
		if gaveUp := c.rest(ctx, method, failed, cause, rest); gaveUp != nil {
			return gaveUp
		}
		sending = attempt.Mark(ctx, failed+1)
	}
}

// fits tells whether ctx has time for more than the given wait.
func fits(ctx context.Context, wait time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > wait
}

// rest counts a retry and waits before it, or returns why ctx ended first.
func (c *Caller) rest(ctx context.Context, method string, failed int, cause *problem.Problem, wait time.Duration) error {
	reason := cause.Reason
	if reason == "" {
		reason = cause.Code.String()
	}
	c.log.LogAttrs(ctx, slog.LevelDebug, "trying again", slog.String("grpc.method", method),
		slog.Int("attempt", failed+1), slog.String("error", cause.Error()))
	if gaveUp := sleep(ctx, wait); gaveUp != nil {
		return status.FromContextError(gaveUp).Err()
	}
	c.retries.WithLabelValues(c.callee, reason).Inc()
	return nil
}

// sleep waits, or returns why ctx ended first.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stream is the interceptor of streams. They are not retried: what was handed
// on to the reader cannot be taken back, so whoever reads decides.
func (c *Caller) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(ctx, desc, cc, method, opts...)
}

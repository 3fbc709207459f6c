// Package deadline gives every call that comes in an end, and refuses one that
// could not be answered before its end: its work would be for nothing.
package deadline

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
)

// Config holds the two times of the decision.
type Config struct {
	// Default is given to a call without a deadline.
	Default time.Duration
	// Minimum is the least time that must be left.
	Minimum time.Duration
	// Refuse tells whether calls with less than that are refused now; nil stands for always. It is called for each of
	// them, by any goroutine.
	Refuse func() bool
}

// decide tells what to do with a call that has the given time left: refuse it,
// or go on, with Default as its time when it came with none.
func (c Config) decide(left time.Duration, bounded bool) (timeout time.Duration, err error) {
	switch {
	case !bounded:
		return c.Default, nil
	case (left <= 0 || left < c.Minimum) && (c.Refuse == nil || c.Refuse()):
		return 0, problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort,
			"%v are left and at least %v are needed; call earlier or with a longer deadline", left.Round(time.Millisecond), c.Minimum).Retry(0)
	}
	return 0, nil
}

func (c Config) bound(ctx context.Context) (context.Context, context.CancelFunc, error) {
	var left time.Duration
	end, bounded := ctx.Deadline()
	if bounded {
		left = time.Until(end)
	}
	timeout, err := c.decide(left, bounded)
	if timeout == 0 || err != nil {
		return ctx, func() {}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	return ctx, cancel, nil
}

// Unary is the interceptor of unary calls.
func (c Config) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, cancel, err := c.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return handler(ctx, req)
}

// Stream is the interceptor of streams; the time is that of the whole stream.
func (c Config) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel, err := c.bound(ss.Context())
	if err != nil {
		return err
	}
	defer cancel()
	return handler(srv, bounded{ss, ctx})
}

type bounded struct {
	grpc.ServerStream
	ctx context.Context
}

func (s bounded) Context() context.Context { return s.ctx }

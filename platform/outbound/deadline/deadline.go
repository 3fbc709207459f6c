// Package deadline shortens the deadline that is passed on to a callee. The
// callee then gives up first, and its answer, which says why, arrives before
// the caller's own time is over (letsencrypt/boulder's grpc package does the
// same and names the confusion that it ends).
package deadline

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
)

// Shave is the time taken off.
type Shave time.Duration

// decide gives the deadline to pass on, or refuses a call for which no time
// would be left.
func (s Shave) decide(now, deadline time.Time) (time.Time, error) {
	shorter := deadline.Add(-time.Duration(s))
	if !shorter.After(now) {
		return time.Time{}, problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort,
			"%v are left, which is no more than the %v kept back; call earlier or with a longer deadline",
			deadline.Sub(now).Round(time.Millisecond), time.Duration(s)).Retry(0)
	}
	return shorter, nil
}

// shaved tells an earlier deadline than its parent's end. gRPC puts what
// Deadline tells on the wire; a timer for those few milliseconds would cost
// more than they are worth.
type shaved struct {
	context.Context
	deadline time.Time
}

func (c shaved) Deadline() (time.Time, bool) { return c.deadline, true }

func (s Shave) apply(ctx context.Context) (context.Context, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, nil
	}
	shorter, err := s.decide(time.Now(), deadline)
	if err != nil {
		return nil, err
	}
	return shaved{ctx, shorter}, nil
}

// Unary is the interceptor of unary calls.
func (s Shave) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, err := s.apply(ctx)
	if err != nil {
		return err
	}
	return invoker(ctx, method, req, reply, cc, opts...)
}

// Stream is the interceptor of streams.
func (s Shave) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, err := s.apply(ctx)
	if err != nil {
		return nil, err
	}
	return streamer(ctx, desc, cc, method, opts...)
}

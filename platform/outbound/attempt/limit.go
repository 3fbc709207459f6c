package attempt

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
)

// timedOut is the answer to an attempt that took longer than it may.
var timedOut = problem.New(codes.DeadlineExceeded, problem.AttemptTimeout,
	"the callee did not answer within the time of one attempt; its outcome is unknown, try again").Retry(0)

// Limit bounds the time of one attempt. Safe for concurrent use.
type Limit struct {
	timeout *knobs.Duration
}

// NewLimit declares the knob attempt.timeout: 0, as it is by default, leaves an
// attempt all the time that the call has.
func NewLimit(set *knobs.Set) *Limit {
	return &Limit{timeout: set.Duration("attempt.timeout", 0, 0, time.Minute,
		"How long one attempt of a call may take; 0 leaves it the call's whole time.")}
}

// Unary is the interceptor of unary calls. The callee learns the shorter time
// as its deadline, and can refuse what it cannot do in it.
func (l *Limit) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	timeout := l.timeout.Get()
	if timeout == 0 {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := invoker(bounded, method, req, reply, cc, opts...)
	if err == nil || status.Code(err) != codes.DeadlineExceeded || !shorter(bounded, ctx) {
		return err
	}
	// Since every hop passes on a little less time than it has, the word that the
	// time is over mostly comes from the callee, and before this side's clock.
	if bounded.Err() == nil {
		switch problem.Reason(err) {
		case problem.DeadlineTooShort, problem.AttemptTimeout: // a refusal; another hop's attempt
			return err
		}
	}
	return timedOut
}

// shorter tells whether it was the attempt's time that ended, and not the
// call's.
func shorter(attempt, call context.Context) bool {
	deadline, ok := call.Deadline()
	if !ok {
		return call.Err() == nil
	}
	limit, _ := attempt.Deadline()
	return limit.Before(deadline) && time.Until(deadline) > 0 && call.Err() == nil
}

// Stream is the interceptor of streams, which last as long as their readers
// want: it does nothing.
func (l *Limit) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(ctx, desc, cc, method, opts...)
}

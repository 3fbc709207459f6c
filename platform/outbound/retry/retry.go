package retry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	"spillway.dev/platform/problem"
)

// Policy retries calls. Safe for concurrent use. The loop is our own: that of
// go-grpc-middleware decides by code alone, and its package links html/template,
// which keeps the linker from leaving out what no service calls.
type Policy struct {
	attempts int
	methods  methods
	log      *slog.Logger
}

// New allows the given number of attempts in all, at least 1.
func New(attempts int, log *slog.Logger) *Policy {
	return &Policy{attempts: attempts, methods: methods{files: protoregistry.GlobalFiles}, log: log}
}

// Unary is the interceptor of unary calls.
func (p *Policy) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoker(ctx, method, req, reply, cc, opts...)
	if err == nil || p.attempts == 1 || !p.methods.idempotent(method) {
		return err
	}
	for failed := 1; failed < p.attempts && err != nil; failed++ {
		pause, again := plan(ctx, failed, err)
		if !again {
			return err
		}
		p.log.LogAttrs(ctx, slog.LevelDebug, "trying again", slog.String("grpc.method", method),
			slog.Int("attempt", failed+1), slog.String("error", err.Error()))
		if gaveUp := sleep(ctx, pause); gaveUp != nil {
			return status.FromContextError(gaveUp).Err()
		}
		err = invoker(ctx, method, req, reply, cc, opts...)
	}
	return err
}

// plan tells how long to wait after the given number of failed attempts, and
// whether to try again at all.
func plan(ctx context.Context, failed int, err error) (time.Duration, bool) {
	cause := problem.From(err)
	if !passing(cause) || ctx.Err() != nil {
		return 0, false
	}
	pause := wait(failed, cause, rand.Float64())
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return 0, false
	}
	return pause, true
}

// sleep waits for pause, or returns why ctx ended first.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
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
func (p *Policy) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(ctx, desc, cc, method, opts...)
}

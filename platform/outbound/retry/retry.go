package retry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoregistry"

	"spillway.dev/platform/problem"
)

// Policy retries calls. Safe for concurrent use.
type Policy struct {
	attempts int
	methods  methods
	log      *slog.Logger
}

// New allows the given number of attempts in all, at least 1.
func New(attempts int, log *slog.Logger) *Policy {
	return &Policy{attempts: attempts, methods: methods{files: protoregistry.GlobalFiles}, log: log}
}

// Unary is the interceptor of unary calls. The first attempt is made here;
// go-grpc-middleware's loop, which costs allocations, is entered only when it
// failed in a way that may pass.
func (p *Policy) Unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoker(ctx, method, req, reply, cc, opts...)
	if err == nil || p.attempts == 1 || !p.methods.idempotent(method) {
		return err
	}
	next, again := plan(ctx, 1, err)
	if !again {
		return err
	}
	return p.repeat(ctx, method, req, reply, cc, invoker, opts, err, next)
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

func (p *Policy) repeat(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption, err error, pause time.Duration) error {
	failed := 1 // attempts that failed so far
	loop := middleware.UnaryClientInterceptor(
		middleware.WithMax(uint(p.attempts)),
		middleware.WithBackoff(func(context.Context, uint) time.Duration { return pause }),
		middleware.WithRetriable(func(err error) bool {
			if failed == 1 {
				return true // planned already
			}
			var again bool
			pause, again = plan(ctx, failed, err)
			return again
		}),
		middleware.WithOnRetryCallback(func(ctx context.Context, attempt uint, err error) {
			p.log.LogAttrs(ctx, slog.LevelDebug, "trying again", slog.String("grpc.method", method),
				slog.Uint64("attempt", uint64(attempt)+1), slog.String("error", err.Error()))
		}),
	)
	replayed := false
	return loop(ctx, method, req, reply, cc, func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
		if !replayed {
			replayed = true
			return err
		}
		failed++
		return invoker(ctx, method, req, reply, cc, opts...)
	}, opts...)
}

// Stream is the interceptor of streams. They are not retried: what was handed
// on to the reader cannot be taken back, so whoever reads decides.
func (p *Policy) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(ctx, desc, cc, method, opts...)
}

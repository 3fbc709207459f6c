package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/inbound/queue"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/telemetry"
)

// withContext is a stream that goes on under another context.
type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s withContext) Context() context.Context { return s.ctx }

// identityUnary reads who calls. What it refuses is logged here, since the
// entries that log and count come after it.
func identityUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		named, err := identity.FromIncoming(ctx)
		if err != nil {
			logNameless(ctx, log, info.FullMethod, err)
			return nil, err
		}
		return handler(named, req)
	}
}

func identityStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		named, err := identity.FromIncoming(ss.Context())
		if err != nil {
			logNameless(ss.Context(), log, info.FullMethod, err)
			return err
		}
		return handler(srv, withContext{ss, named})
	}
}

func logNameless(ctx context.Context, log *slog.Logger, method string, err error) {
	log.LogAttrs(ctx, slog.LevelWarn, "call refused", slog.String("grpc.method", method), slog.String("error", err.Error()))
}

// priorities reads how urgent a call is.
type priorities struct{ malformed prometheus.Counter }

func newPriorities(reg prometheus.Registerer) (priorities, error) {
	p := priorities{prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spillway_criticality_malformed_total",
		Help: "Calls whose priority could not be read, and who were taken for standard ones: a fault of the caller.",
	})}
	if err := reg.Register(p.malformed); err != nil {
		return p, fmt.Errorf("register the counter of malformed priorities: %w", err)
	}
	return p, nil
}

func (p priorities) read(ctx context.Context) context.Context {
	ctx, wellFormed := criticality.FromIncoming(ctx)
	if !wellFormed {
		p.malformed.Inc()
	}
	return ctx
}

func (p priorities) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(p.read(ctx), req)
}

func (p priorities) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, withContext{ss, p.read(ss.Context())})
}

func recovered(log *slog.Logger) Named {
	handle := recovery.WithRecoveryHandlerContext(func(ctx context.Context, p any) error {
		log.LogAttrs(ctx, slog.LevelError, "a handler panicked",
			slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		return problem.New(codes.Internal, problem.Internal, "internal error; the server's log has the cause").
			Because(errors.New("panic"))
	})
	return Named{"recovery", recovery.UnaryServerInterceptor(handle), recovery.StreamServerInterceptor(handle)}
}

// waiting is how long a call that arrives at arrival would wait for a slot: in line, and then in the station.
func waiting(station *capacity.Station, line *queue.Queue, arrival time.Time) time.Duration {
	if station == nil {
		return 0
	}
	return line.Wait(arrival) + station.Wait(arrival)
}

// slots spends a call's time in the station, counted from its arrival, and lets the next in line have the slot then,
// whatever the handler still does.
type slots struct {
	station *capacity.Station
	line    *queue.Queue
}

func (s slots) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.visit(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (s slots) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.visit(ss.Context()); err != nil {
		return err
	}
	return handler(srv, ss)
}

func (s slots) visit(ctx context.Context) error {
	if s.station == nil {
		return nil
	}
	visit, err := s.station.Serve(ctx, telemetry.Arrival(ctx))
	s.line.Leave(ctx, visit.Lateness)
	if errors.Is(err, capacity.ErrTooLate) {
		return problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort,
			"all slots are taken for longer than the time left; give more time, or try later").Retry(0).Because(err)
	}
	return err
}

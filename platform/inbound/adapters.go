package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/identity"
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

func capacityUnary(station *capacity.Station) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if err := visit(ctx, station); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
}

func capacityStream(station *capacity.Station) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if err := visit(ss.Context(), station); err != nil {
			return err
		}
		return handler(srv, ss)
	}
}

// visit spends the call's time in the station, counted from its arrival.
func visit(ctx context.Context, station *capacity.Station) error {
	if station == nil {
		return nil
	}
	_, err := station.Serve(ctx, telemetry.Arrival(ctx))
	if errors.Is(err, capacity.ErrTooLate) {
		return problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort,
			"all slots are taken for longer than the time left; give more time, or try later").Retry(0).Because(err)
	}
	return err
}

// Package logging writes one line when a call ends: for every failure, and for
// the successes and refusals on purpose that are traced. Logging each success
// would cost a quarter of a call's CPU and tell what the metrics tell; logging
// each refusal would cost more than it, when there is least to spend.
//
// Neither messages nor metadata are logged; field names and levels are those
// of go-grpc-middleware's logging package. That package itself gathers the
// fields of a line before it is known whether there will be one.
package logging

import (
	"context"
	"log/slog"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/peer"

	"spillway.dev/platform/identity"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// New reports to log the calls that a server answers.
func New(log *slog.Logger) interceptors.CommonReportableFunc {
	return func(ctx context.Context, meta interceptors.CallMeta) (interceptors.Reporter, context.Context) {
		return &line{log: log, ctx: ctx, service: meta.Service, method: meta.Method}, ctx
	}
}

type line struct {
	interceptors.NoopReporter
	log             *slog.Logger
	ctx             context.Context
	service, method string
}

// PostCall implements interceptors.Reporter.
func (l *line) PostCall(err error, took time.Duration) {
	if (err == nil || refusal.OnPurpose(err)) && !trace.SpanContextFromContext(l.ctx).IsSampled() {
		return
	}
	attrs := append(make([]slog.Attr, 0, 10),
		slog.String("grpc.service", l.service),
		slog.String("grpc.method", l.method),
		slog.String("caller", identity.Caller(l.ctx)),
		slog.Float64("grpc.time_ms", float64(took)/float64(time.Millisecond)),
	)
	if p, ok := peer.FromContext(l.ctx); ok {
		attrs = append(attrs, slog.String("peer.address", p.Addr.String()))
	}
	level := slog.LevelInfo
	code := "OK"
	if err != nil {
		p := problem.From(err)
		code, level = p.Code.String(), slog.Level(middleware.DefaultServerCodeToLevel(p.Code))
		attrs = append(attrs, slog.String("reason", p.Reason), slog.String("error", err.Error()))
	}
	l.log.LogAttrs(l.ctx, level, "finished call", append(attrs, slog.String("grpc.code", code))...)
}

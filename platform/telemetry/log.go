package telemetry

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

func newLogger(cfg Config, w io.Writer) *slog.Logger {
	attrs := []slog.Attr{slog.String("service", cfg.Service), slog.String("instance", cfg.Instance)}
	if cfg.Zone != "" {
		attrs = append(attrs, slog.String("zone", cfg.Zone))
	}
	lines := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: cfg.LogLevel})
	return slog.New(traceHandler{lines.WithAttrs(attrs)})
}

// traceHandler adds to a line the trace that its context belongs to.
type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
		// Of a call that is not traced there is no span here: the id in ctx is
		// the caller's.
		if !sc.IsRemote() {
			r.AddAttrs(slog.String("span_id", sc.SpanID().String()))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}

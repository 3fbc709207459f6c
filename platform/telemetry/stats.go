package telemetry

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"spillway.dev/platform/problem"
)

const traceparentKey = "traceparent"

// arrivalKey is the context key of the time at which a call arrived.
type arrivalKey struct{}

// Arrival is when the call of ctx reached this server, before its message was
// read and before any interceptor; the time of asking if ctx is no such call.
func Arrival(ctx context.Context) time.Time {
	if at, ok := ctx.Value(arrivalKey{}).(time.Time); ok {
		return at
	}
	return time.Now()
}

// Infrastructure tells whether a full method name such as
// "/grpc.health.v1.Health/Check" belongs to gRPC itself (health, reflection).
// Such calls are not the service's work: they are neither traced nor counted.
func Infrastructure(fullMethod string) bool { return strings.HasPrefix(fullMethod, "/grpc.") }

func options(traces trace.TracerProvider) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(traces),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		// Metrics are the chains' business; otelgrpc's cost as much as its spans.
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
	}
}

// serverStats decides on each call that comes in whether otelgrpc sees it.
type serverStats struct {
	traced  stats.Handler
	sampler sdktrace.Sampler
}

func newServerStats(traces trace.TracerProvider, sampler sdktrace.Sampler) stats.Handler {
	return &serverStats{traced: otelgrpc.NewServerHandler(options(traces)...), sampler: sampler}
}

func (s *serverStats) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	ctx = context.WithValue(ctx, arrivalKey{}, time.Now())
	if Infrastructure(info.FullMethodName) {
		return ctx
	}
	var parent trace.SpanContext
	var called bool
	if values := metadata.ValueFromIncomingContext(ctx, traceparentKey); len(values) == 1 {
		parent, called = parseTraceparent(values[0])
	}
	switch {
	case called && parent.IsSampled():
		return s.traced.TagRPC(ctx, info)
	case called:
		return trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	root := newRoot()
	if sampleRoot(s.sampler, ctx, root.TraceID()) {
		return s.traced.TagRPC(context.WithValue(ctx, chosenID{}, root.TraceID()), info)
	}
	return trace.ContextWithRemoteSpanContext(ctx, root)
}

func (s *serverStats) HandleRPC(ctx context.Context, event stats.RPCStats) {
	forward(s.traced, ctx, event)
}

func (*serverStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*serverStats) HandleConn(context.Context, stats.ConnStats)                       {}

// clientStats decides on each attempt of a call that goes out.
type clientStats struct {
	traced  stats.Handler
	sampler sdktrace.Sampler
}

func newClientStats(traces trace.TracerProvider, sampler sdktrace.Sampler) stats.Handler {
	return &clientStats{traced: otelgrpc.NewClientHandler(options(traces)...), sampler: sampler}
}

func (c *clientStats) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if Infrastructure(info.FullMethodName) {
		return ctx
	}
	current := trace.SpanContextFromContext(ctx)
	if current.IsSampled() {
		return c.traced.TagRPC(ctx, info)
	}
	if !current.IsValid() {
		current = newRoot()
		if sampleRoot(c.sampler, ctx, current.TraceID()) {
			return c.traced.TagRPC(context.WithValue(ctx, chosenID{}, current.TraceID()), info)
		}
	}
	return metadata.AppendToOutgoingContext(ctx, traceparentKey, formatTraceparent(current))
}

func (c *clientStats) HandleRPC(ctx context.Context, event stats.RPCStats) {
	forward(c.traced, ctx, event)
}

func (*clientStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*clientStats) HandleConn(context.Context, stats.ConnStats)                       {}

// forward passes on what otelgrpc reads, of calls that are traced. The span of
// a call that failed gets the reason, which its status does not show.
func forward(traced stats.Handler, ctx context.Context, event stats.RPCStats) {
	switch event := event.(type) {
	case *stats.Begin, *stats.InHeader, *stats.OutHeader:
		if trace.SpanContextFromContext(ctx).IsSampled() {
			traced.HandleRPC(ctx, event)
		}
	case *stats.End:
		span := trace.SpanFromContext(ctx)
		if !span.SpanContext().IsSampled() {
			return
		}
		if event.Error != nil {
			if reason := problem.Reason(event.Error); reason != "" {
				span.SetAttributes(attribute.String("spillway.reason", reason))
			}
			span.RecordError(event.Error)
		}
		traced.HandleRPC(ctx, event)
	}
}

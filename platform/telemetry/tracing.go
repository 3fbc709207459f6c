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
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"

	"spillway.dev/platform/problem"
)

const traceparentKey = "traceparent"

// arrivalKey is the context key of the time at which a call arrived.
type arrivalKey struct{}

// Arrival is when the call of ctx reached this server, before its message was
// read and before a goroutine was found for it; the time of asking if ctx is no
// such call.
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

// tracing leads calls into otelgrpc, or past it.
//
// otelgrpc comes as a stats.Handler. Installed as one it would cost every call:
// grpc-go then copies headers and makes seven events for each side of a call,
// 0.15 of a bare call's CPU with a handler that does nothing. So the handler is
// driven from interceptors, for the calls that are traced.
type tracing struct {
	server, client stats.Handler
	sampler        sdktrace.Sampler
}

func newTracing(traces trace.TracerProvider, sampler sdktrace.Sampler) *tracing {
	options := []otelgrpc.Option{
		otelgrpc.WithTracerProvider(traces),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		// Metrics are the chains' business; otelgrpc's cost as much as its spans.
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
	}
	return &tracing{
		server:  otelgrpc.NewServerHandler(options...),
		client:  otelgrpc.NewClientHandler(options...),
		sampler: sampler,
	}
}

// ServerOptions lead a server's calls into tracing and note when each arrived.
// They come before all other interceptors: what those log and count is tied to
// the trace.
func (t *Telemetry) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(t.tracing.arrive),
		grpc.ChainUnaryInterceptor(t.tracing.serveUnary),
		grpc.ChainStreamInterceptor(t.tracing.serveStream),
	}
}

// DialOptions lead a connection's calls into tracing. They come after the
// outbound chain, so that each attempt has its span.
func (t *Telemetry) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(t.tracing.callUnary),
		grpc.WithChainStreamInterceptor(t.tracing.callStream),
	}
}

// arrive decides, as the headers of a call are read, whether it is traced. The
// decision is kept in the context: a remote parent without the sampled flag for
// no; a sampled parent, or the chosen id of a new trace, for yes.
func (t *tracing) arrive(ctx context.Context, call *tap.Info) (context.Context, error) {
	ctx = context.WithValue(ctx, arrivalKey{}, time.Now())
	if Infrastructure(call.FullMethodName) {
		return ctx, nil
	}
	if values := call.Header[traceparentKey]; len(values) == 1 {
		if parent, ok := parseTraceparent(values[0]); ok {
			return trace.ContextWithRemoteSpanContext(ctx, parent), nil
		}
	}
	root := newRoot()
	if sampleRoot(t.sampler, ctx, root.TraceID()) {
		return context.WithValue(ctx, chosenID{}, root.TraceID()), nil
	}
	return trace.ContextWithRemoteSpanContext(ctx, root), nil
}

// traced reads the decision of arrive.
func traced(ctx context.Context, fullMethod string) bool {
	if Infrastructure(fullMethod) {
		return false
	}
	sc := trace.SpanContextFromContext(ctx)
	return sc.IsSampled() || !sc.IsValid()
}

// finish ends the span of a call. The reason is told apart: a status does not
// show it.
func finish(handler stats.Handler, ctx context.Context, begun time.Time, err error) {
	if err != nil {
		p := problem.From(err)
		span := trace.SpanFromContext(ctx)
		span.SetAttributes(attribute.String("spillway.reason", p.Reason))
		span.RecordError(p)
		err = p
	}
	handler.HandleRPC(ctx, &stats.End{BeginTime: begun, EndTime: time.Now(), Error: err})
}

// Package telemetry is what a service tells about itself: traces by OTLP,
// metrics in Prometheus format and JSON logs, tied together by the trace id.
//
// Whether a call is traced is decided once, where it enters the mesh, and
// before any tracing code runs: entering otelgrpc costs half as much again as
// a bare call, whatever becomes of the span. A call that is not traced still
// carries its trace id from hop to hop, so that its log lines can be found.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// endpointVariable is OpenTelemetry's own; the exporter reads the rest of the
// OTEL_EXPORTER_OTLP_* family by itself.
const endpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"

// batchTimeout is how long a finished span waits for others before it is sent.
// Well below the SDK's 5 s, because people look at a trace right after the
// call; spans are few, so that batches stay rare.
const batchTimeout = 200 * time.Millisecond

// Config says whose telemetry it is.
type Config struct {
	// Service is the name in the mesh, Instance the replica's; Zone may be empty.
	Service, Instance, Zone string
	// LogLevel is the lowest level that is written.
	LogLevel slog.Level
	// TraceRatio is the part of root calls that is traced, 0 to 1.
	TraceRatio float64
}

// Validate names the first setting that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Service == "":
		return errors.New("telemetry: Service is empty; give the service's name")
	case !(c.TraceRatio >= 0 && c.TraceRatio <= 1):
		return fmt.Errorf("telemetry: TraceRatio is %v; allowed are 0 to 1", c.TraceRatio)
	}
	return nil
}

// Telemetry is one process's. Its methods are safe for concurrent use.
type Telemetry struct {
	log      *slog.Logger
	registry *prometheus.Registry
	traces   *sdktrace.TracerProvider
	exporter *otlptrace.Exporter // nil when nothing is exported
	tracer   trace.Tracer
	tracing  *tracing
	redis    *redisMetrics
}

// New starts the telemetry of one process; log lines go to logs. Traces are
// exported when OTEL_EXPORTER_OTLP_ENDPOINT is set; New does not wait for that
// endpoint, and spans that it does not take in time are dropped, never waited
// for. The caller must call Shutdown.
func New(ctx context.Context, cfg Config, logs io.Writer) (*Telemetry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var processors []sdktrace.TracerProviderOption
	var exporter *otlptrace.Exporter
	if os.Getenv(endpointVariable) != "" {
		var err error
		if exporter, err = otlptracegrpc.New(ctx); err != nil {
			return nil, fmt.Errorf("telemetry: cannot set up the export to %s (%s): %w", os.Getenv(endpointVariable), endpointVariable, err)
		}
		processors = append(processors, sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(batchTimeout)))
	}

	sampler := sdktrace.TraceIDRatioBased(cfg.TraceRatio)
	traces := sdktrace.NewTracerProvider(append(processors,
		sdktrace.WithResource(describe(cfg)),
		sdktrace.WithSampler(sdktrace.ParentBased(sampler)),
		sdktrace.WithIDGenerator(identifiers{}),
	)...)

	registry, err := newRegistry()
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	redis, err := newRedisMetrics(registry)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	log := newLogger(cfg, logs)
	// The library reports failed exports to one handler a process, on standard
	// error and as plain text unless told otherwise.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "error", err) }))
	return &Telemetry{
		log:      log,
		registry: registry,
		traces:   traces,
		exporter: exporter,
		tracer:   traces.Tracer("spillway.dev/platform/telemetry"),
		tracing:  newTracing(traces, sampler),
		redis:    redis,
	}, nil
}

// Log writes JSON lines with service, instance and, from a call's context,
// trace_id and span_id.
func (t *Telemetry) Log() *slog.Logger { return t.log }

// Registry is where the process's metrics are registered.
func (t *Telemetry) Registry() *prometheus.Registry { return t.registry }

// Tracer starts spans inside a call that is traced already, or roots at the
// configured ratio.
func (t *Telemetry) Tracer() trace.Tracer { return t.tracer }

// Shutdown sends what is left of the spans, until ctx ends.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if err := t.traces.Shutdown(ctx); err != nil {
		if t.exporter != nil {
			// The SDK leaves an export that is under way to itself, for up to a
			// minute; ctx has ended, so this cuts it short.
			_ = t.exporter.Shutdown(ctx)
		}
		return fmt.Errorf("telemetry: flush traces: %w", err)
	}
	return nil
}

func describe(cfg Config) *resource.Resource {
	r := resource.NewWithAttributes(semconv.SchemaURL,
		semconv.ServiceName(cfg.Service),
		semconv.ServiceInstanceID(cfg.Instance),
		semconv.ServiceNamespace("spillway"),
	)
	if cfg.Zone == "" {
		return r
	}
	zoned, err := resource.Merge(r, resource.NewSchemaless(semconv.CloudAvailabilityZone(cfg.Zone)))
	if err != nil {
		// Merge fails only between two different schemas; one side has none.
		return r
	}
	return zoned
}

package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"spillway.dev/platform/criticality"
)

// natsHeader makes a message's header a carrier. NATS keeps the case of
// header keys, as W3C Trace Context wants them lower-case.
type natsHeader nats.Header

func (h natsHeader) Get(key string) string { return nats.Header(h).Get(key) }
func (h natsHeader) Set(key, value string) { nats.Header(h).Set(key, value) }
func (h natsHeader) Keys() []string {
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	return keys
}

// Inject writes into a message's header, which must not be nil, what calls carry
// as metadata: the trace of ctx, sampled or not, and the priority of the call
// that ctx belongs to, where there is one.
func Inject(ctx context.Context, header nats.Header) {
	propagation.TraceContext{}.Inject(ctx, natsHeader(header))
	if priority, ok := criticality.Own(ctx); ok {
		header.Set(criticality.Header, priority)
	}
}

// Extract is ctx as part of the trace that the message's header names, with the
// priority that it names. What it does not name, or not well, stays as it is.
func Extract(ctx context.Context, header nats.Header) context.Context {
	if class, band, ok := criticality.Parse(header.Get(criticality.Header)); ok {
		ctx = criticality.With(ctx, class, band)
	}
	return propagation.TraceContext{}.Extract(ctx, natsHeader(header))
}

// Messaging traces and times messages through NATS. Safe for concurrent use.
type Messaging struct {
	tracer    trace.Tracer
	published *prometheus.HistogramVec
	consumed  *prometheus.HistogramVec
}

// NewMessaging registers the metrics; once for each registry.
func NewMessaging(tracer trace.Tracer, reg prometheus.Registerer) (*Messaging, error) {
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: Buckets()},
			[]string{"messaging_destination_name", "outcome"})
	}
	m := &Messaging{
		tracer:    tracer,
		published: histogram("messaging_client_operation_duration_seconds", "Duration of publishing a message, until the broker has it."),
		consumed:  histogram("messaging_process_duration_seconds", "Duration of working on a message that was received."),
	}
	return m, errors.Join(reg.Register(m.published), reg.Register(m.consumed))
}

// Publish runs publish inside a producer span and puts the trace into header,
// which publish must send along. The subject must be one of few: it becomes a
// label.
func (m *Messaging) Publish(ctx context.Context, subject string, header nats.Header, publish func(context.Context) error) error {
	ctx, span := m.start(ctx, "publish", subject, trace.SpanKindProducer,
		semconv.MessagingOperationTypeSend, semconv.MessagingOperationName("publish"))
	Inject(ctx, header)
	return m.run(ctx, span, m.published, subject, publish)
}

// Consume runs handle as part of the trace that header names, inside a
// consumer span. The error of handle is returned as it is.
func (m *Messaging) Consume(ctx context.Context, subject string, header nats.Header, handle func(context.Context) error) error {
	ctx, span := m.start(Extract(ctx, header), "process", subject, trace.SpanKindConsumer,
		semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"))
	return m.run(ctx, span, m.consumed, subject, handle)
}

func (m *Messaging) start(ctx context.Context, verb, subject string, kind trace.SpanKind, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	return m.tracer.Start(ctx, verb+" "+subject, trace.WithSpanKind(kind), trace.WithAttributes(append(attrs,
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingDestinationName(subject),
	)...))
}

func (m *Messaging) run(ctx context.Context, span trace.Span, h *prometheus.HistogramVec, subject string, f func(context.Context) error) error {
	defer span.End()
	start, outcome := time.Now(), "ok"
	err := f(ctx)
	if err != nil {
		outcome = "error"
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	Observe(ctx, h.WithLabelValues(subject, outcome), time.Since(start).Seconds())
	return err
}

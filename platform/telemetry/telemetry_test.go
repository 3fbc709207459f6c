package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"spillway.dev/platform/criticality"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newRecorded is a Telemetry whose spans can be looked at.
func newRecorded(t *testing.T, cfg Config) (*Telemetry, *bytes.Buffer, *tracetest.SpanRecorder) {
	t.Helper()
	t.Setenv(endpointVariable, "")
	var logs bytes.Buffer
	tel, err := New(t.Context(), cfg, &logs)
	if err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewSpanRecorder()
	tel.traces.RegisterSpanProcessor(spans)
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel, &logs, spans
}

func TestTraceparentIsReadAsOpenTelemetryReadsIt(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, header := range []string{
		"00-" + id + "-" + span + "-01",
		"00-" + id + "-" + span + "-00",
		"00-" + id + "-" + span + "-03",
		"00-" + id + "-" + span + "-04",
		"01-" + id + "-" + span + "-01",
		"01-" + id + "-" + span + "-01-more",
		"01-" + id + "-" + span + "-01more",
		"00-" + id + "-" + span + "-01-more",
		"ff-" + id + "-" + span + "-01",
		"0g-" + id + "-" + span + "-01",
		"00-" + strings.ToUpper(id) + "-" + span + "-01",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01",
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01",
		"00_" + id + "-" + span + "-01",
		"00-" + id + "-" + span,
		"00-" + id + "-" + span + "-0",
		"",
		strings.Repeat("-", traceparentSize),
	} {
		carrier := propagation.MapCarrier{"traceparent": header}
		want := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
		got, ok := parseTraceparent(header)
		if ok != want.IsValid() || ok && (got.TraceID() != want.TraceID() || got.SpanID() != want.SpanID() || got.IsSampled() != want.IsSampled() || !got.IsRemote()) {
			t.Errorf("%q is read as %v (%v), OpenTelemetry reads %v", header, got, ok, want)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	f.Fuzz(func(t *testing.T, header string) {
		if sc, ok := parseTraceparent(header); ok && strings.HasPrefix(header, "00-") && !sc.IsSampled() {
			if got := formatTraceparent(sc); got[:52] != header[:52] {
				t.Errorf("%q comes out as %q", header, got)
			}
		}
	})
}

func TestRootDecisionIsTheSDKs(t *testing.T) {
	sampler := sdktrace.TraceIDRatioBased(0.3)
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sampler)),
		sdktrace.WithIDGenerator(identifiers{}), sdktrace.WithSpanProcessor(spans))
	tracer := provider.Tracer("test")
	sampled := 0
	for range 2000 {
		root := newRoot()
		want := sampleRoot(sampler, context.Background(), root.TraceID())
		_, span := tracer.Start(context.WithValue(context.Background(), chosenID{}, root.TraceID()), "root")
		span.End()
		if got := span.SpanContext(); got.TraceID() != root.TraceID() || got.IsSampled() != want {
			t.Fatalf("decided %v for %v, the SDK made %v, sampled %v", want, root.TraceID(), got.TraceID(), got.IsSampled())
		}
		if want {
			sampled++
		}
	}
	if sampled < 500 || sampled > 700 || len(spans.Ended()) != sampled {
		t.Errorf("%d of 2000 are sampled at a ratio of 0.3, %d recorded", sampled, len(spans.Ended()))
	}
}

func TestLogLinesCarryTheTrace(t *testing.T) {
	tel, logs, _ := newRecorded(t, Config{Service: "catalog", Instance: "catalog-1", Zone: "a", TraceRatio: 1})
	line := func() map[string]any {
		t.Helper()
		fields := map[string]any{}
		if err := json.Unmarshal(logs.Bytes(), &fields); err != nil {
			t.Fatalf("%v: %q", err, logs)
		}
		logs.Reset()
		return fields
	}
	tel.Log().Info("alone")
	if got := line(); got["service"] != "catalog" || got["instance"] != "catalog-1" || got["zone"] != "a" || got["trace_id"] != nil {
		t.Errorf("a line outside of any call is %v", got)
	}
	ctx, span := tel.Tracer().Start(t.Context(), "work")
	tel.Log().With("k", "v").InfoContext(ctx, "inside")
	if got := line(); got["trace_id"] != span.SpanContext().TraceID().String() || got["span_id"] != span.SpanContext().SpanID().String() || got["k"] != "v" {
		t.Errorf("a line inside span %v is %v", span.SpanContext(), got)
	}
	span.End()
	root := newRoot()
	tel.Log().InfoContext(trace.ContextWithRemoteSpanContext(t.Context(), root), "untraced")
	if got := line(); got["trace_id"] != root.TraceID().String() || got["span_id"] != nil {
		t.Errorf("a line of a call that is not traced is %v, want only trace_id %v", got, root.TraceID())
	}
	tel.Log().Log(t.Context(), slog.LevelDebug, "quiet")
	if logs.Len() != 0 {
		t.Errorf("a debug line is written at level info: %s", logs)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	for _, cfg := range []Config{{}, {Service: "a", TraceRatio: 1.1}, {Service: "a", TraceRatio: -0.1}} {
		if _, err := New(t.Context(), cfg, &bytes.Buffer{}); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// TestNobodyListensForTraces shows that an endpoint that is away neither keeps
// a process from starting nor from ending.
func TestNobodyListensForTraces(t *testing.T) {
	t.Setenv(endpointVariable, "http://127.0.0.1:1")
	start := time.Now()
	tel, err := New(t.Context(), Config{Service: "a", TraceRatio: 1}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		_, span := tel.Tracer().Start(t.Context(), "lost")
		span.End()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = tel.Shutdown(ctx) // reports that spans were lost, or not, by chance of timing
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("start and end took %v with nobody at the endpoint", took)
	}
}

// scrape is the registry as Prometheus reads it.
func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(w, req)
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/openmetrics-text") {
		t.Fatalf("status %d, type %q", w.Code, w.Header().Get("Content-Type"))
	}
	return w.Body.String()
}

func TestTraceGoesOnThroughMessages(t *testing.T) {
	tel, _, spans := newRecorded(t, Config{Service: "order", TraceRatio: 1})
	m, err := NewMessaging(tel.Tracer(), tel.Registry())
	if err != nil {
		t.Fatal(err)
	}
	header := nats.Header{}
	if err := m.Publish(t.Context(), "orders.paid", header, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	lost := errors.New("lost")
	if err := m.Consume(t.Context(), "orders.paid", header, func(context.Context) error { return lost }); !errors.Is(err, lost) {
		t.Fatalf("Consume gives %v, want the handler's error", err)
	}
	ended := spans.Ended()
	if len(ended) != 2 || ended[0].Name() != "publish orders.paid" || ended[1].Name() != "process orders.paid" ||
		ended[0].SpanKind() != trace.SpanKindProducer || ended[1].SpanKind() != trace.SpanKindConsumer {
		t.Fatalf("spans are %v", ended)
	}
	if ended[1].Parent().SpanID() != ended[0].SpanContext().SpanID() || ended[1].SpanContext().TraceID() != ended[0].SpanContext().TraceID() {
		t.Error("the consumer's span is no child of the producer's")
	}
	metrics := scrape(t, tel)
	for _, want := range []string{
		`messaging_client_operation_duration_seconds_count{messaging_destination_name="orders.paid",outcome="ok"} 1`,
		`messaging_process_duration_seconds_count{messaging_destination_name="orders.paid",outcome="error"} 1`,
		`trace_id="` + ended[0].SpanContext().TraceID().String() + `"`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

func TestUntracedMessagesCarryTheirTraceID(t *testing.T) {
	root := newRoot()
	header := nats.Header{}
	Inject(trace.ContextWithRemoteSpanContext(t.Context(), root), header)
	got := trace.SpanContextFromContext(Extract(t.Context(), header))
	if got.TraceID() != root.TraceID() || got.IsSampled() {
		t.Errorf("%v went in, %v came out", root, got)
	}
	if sc := trace.SpanContextFromContext(Extract(t.Context(), nats.Header{})); sc.IsValid() {
		t.Errorf("a message without a trace gives %v", sc)
	}
}

func TestMessagesCarryThePriority(t *testing.T) {
	header := nats.Header{}
	Inject(criticality.With(t.Context(), criticality.Sheddable, 77), header)
	if class, band := criticality.From(Extract(t.Context(), header)); class != criticality.Sheddable || band != 77 {
		t.Errorf("sheddable/77 went in, %v/%d came out", class, band)
	}
	own := nats.Header{}
	Inject(t.Context(), own)
	for name, header := range map[string]nats.Header{"a service's own": own, "malformed": {criticality.Header: {"sheddable"}}, "none": nil} {
		if _, ok := criticality.Own(Extract(t.Context(), header)); ok {
			t.Errorf("%s: a priority came out of %v", name, header)
		}
	}
}

func TestRedisIsTracedWithoutItsData(t *testing.T) {
	tel, logs, spans := newRecorded(t, Config{Service: "session", TraceRatio: 1})
	client := redis.NewClient(&redis.Options{Addr: startRedis(t), DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	if err := tel.InstrumentRedis(client); err != nil {
		t.Fatal(err)
	}
	const secret = "s3cr3t-t0ken"
	ctx, span := tel.Tracer().Start(t.Context(), "call")
	if err := client.Set(ctx, "session:"+secret, secret, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Get(ctx, "missing:"+secret).Err(); !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	if _, err := client.Pipelined(ctx, func(p redis.Pipeliner) error { p.Del(ctx, "session:"+secret); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := client.Incr(ctx, "n").Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.LPush(ctx, "n", secret).Err(); err == nil {
		t.Fatal("a list command on a number succeeds")
	}
	span.End()
	var names []string
	for _, s := range spans.Ended() {
		if s.Name() != "hello" && s.Name() != "client" { // of a connection that the pool opens when it likes
			names = append(names, s.Name())
		}
	}
	if want := []string{"set", "get", "redis.pipeline del", "incr", "lpush", "call"}; !slices.Equal(names, want) {
		t.Errorf("spans are %q, want %q", names, want)
	}
	if err := client.Get(trace.ContextWithRemoteSpanContext(t.Context(), newRoot()), "n").Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Get(context.Background(), "n").Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range spans.Ended()[len(names):] {
		if s.Name() == "get" {
			t.Error("a command outside of traced calls has a span")
		}
	}
	metrics := scrape(t, tel)
	for _, want := range []string{
		`db_client_operation_duration_seconds_count{db_operation_name="set",outcome="ok"} 1`,
		`db_client_operation_duration_seconds_count{db_operation_name="get",outcome="ok"} 3`,
		`db_client_operation_duration_seconds_count{db_operation_name="lpush",outcome="error"} 1`,
		`db_client_operation_duration_seconds_count{db_operation_name="pipeline",outcome="ok"} 1`,
		`redis_pool_misses_total{server_address="` + client.Options().Addr + `"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	for _, s := range tracetest.SpanStubsFromReadOnlySpans(spans.Ended()) {
		if text, err := json.Marshal(s); err == nil && strings.Contains(string(text), secret) {
			t.Errorf("span %s tells the secret: %s", s.Name, text)
		}
	}
	if strings.Contains(metrics, secret) || strings.Contains(logs.String(), secret) {
		t.Error("metrics or logs tell the secret")
	}
}

func TestRedisAwayIsAnOutcome(t *testing.T) {
	tel, _, _ := newRecorded(t, Config{Service: "session"})
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	if err := tel.InstrumentRedis(client); err != nil {
		t.Fatal(err)
	}
	if err := client.Get(t.Context(), "k").Err(); err == nil {
		t.Fatal("nobody answered, and there is no error")
	}
	if got := scrape(t, tel); !strings.Contains(got, `db_client_operation_duration_seconds_count{db_operation_name="get",outcome="error"} 1`) {
		t.Error("the failure is not counted")
	}
	for err, want := range map[error]string{
		nil: "ok", redis.Nil: "ok", redis.ErrPoolTimeout: "pool_timeout", context.Canceled: "canceled",
		context.DeadlineExceeded: "timeout", errors.New("x"): "error",
	} {
		if got := redisOutcome(err); got != want {
			t.Errorf("the outcome of %v is %q, want %q", err, got, want)
		}
	}
}

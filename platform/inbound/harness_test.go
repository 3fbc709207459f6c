package inbound_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/inbound"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/telemetry"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// safeBuffer takes lines from several goroutines.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines are the log lines written so far that have the given message.
func (b *safeBuffer) lines(t *testing.T, msg string) (found []map[string]any) {
	t.Helper()
	for text := range strings.Lines(b.String()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		if line["msg"] == msg {
			found = append(found, line)
		}
	}
	return found
}

// receiver is an OTLP endpoint that keeps what it gets.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu   sync.Mutex
	sent []*tracepb.ResourceSpans
}

func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, req.GetResourceSpans()...)
	return &collector.ExportTraceServiceResponse{}, nil
}

// spans are all spans received, by service.
func (r *receiver) spans() map[string][]*tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string][]*tracepb.Span{}
	for _, rs := range r.sent {
		name := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				name = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			all[name] = append(all[name], ss.GetSpans()...)
		}
	}
	return all
}

// newReceiver starts an endpoint and points the exporters of this test to it.
func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	addr := listenAndServe(t, func(s *grpc.Server) { collector.RegisterTraceServiceServer(s, r) })
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+addr)
	return r
}

func listenAndServe(t *testing.T, register func(*grpc.Server), opts ...grpc.ServerOption) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(opts...)
	register(server)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(lis) })
	t.Cleanup(func() {
		server.Stop()
		done.Wait()
	})
	return lis.Addr().String()
}

// replica is a service with both chains and telemetry, over TCP.
type replica struct {
	tel  *telemetry.Telemetry
	logs *safeBuffer
	in   *inbound.Chain
	out  *outbound.Chain
	addr string
	// knobs are those of the inbound chain.
	knobs *knobs.Set
	// end flushes the traces.
	end func()
}

type handlers struct {
	session   sessionv1.SessionServiceServer
	inventory inventoryv1.InventoryServiceServer
	payment   paymentv1.PaymentServiceServer
	streams   *grpc.ServiceDesc
}

func start(t *testing.T, name string, ratio float64, h handlers, slots ...capacity.Config) *replica {
	t.Helper()
	r := &replica{logs: &safeBuffer{}}
	var err error
	r.tel, err = telemetry.New(t.Context(), telemetry.Config{Service: name, Instance: name + "-1", TraceRatio: ratio}, r.logs)
	if err != nil {
		t.Fatal(err)
	}
	r.end = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.tel.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.end)
	var station *capacity.Station
	if len(slots) > 0 {
		if station, err = capacity.New(slots[0], r.tel.Registry()); err != nil {
			t.Fatal(err)
		}
	}
	refused, err := refusal.New(r.tel.Registry())
	if err != nil {
		t.Fatal(err)
	}
	r.knobs = knobs.NewSet()
	r.in, err = inbound.New(inbound.Config{DefaultDeadline: 5 * time.Second, MinimumDeadline: 5 * time.Millisecond}, inbound.Replica{
		Service: name, Log: r.tel.Log(), Registry: r.tel.Registry(), Knobs: r.knobs, Refused: refused, Station: station,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.out, err = outbound.New(outbound.Config{Shave: 5 * time.Millisecond, Attempts: 3}, outbound.Replica{
		Service: name, Log: r.tel.Log(), Registry: r.tel.Registry(), Knobs: r.knobs, Refused: refused,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.addr = listenAndServe(t, func(s *grpc.Server) {
		healthpb.RegisterHealthServer(s, health.NewServer())
		if h.session != nil {
			sessionv1.RegisterSessionServiceServer(s, h.session)
		}
		if h.inventory != nil {
			inventoryv1.RegisterInventoryServiceServer(s, h.inventory)
		}
		if h.payment != nil {
			paymentv1.RegisterPaymentServiceServer(s, h.payment)
		}
		if h.streams != nil {
			s.RegisterService(h.streams, nil)
		}
	}, append(r.tel.ServerOptions(), r.in.ServerOptions()...)...)
	return r
}

// dial connects r, as a caller, to another replica.
func (r *replica) dial(t *testing.T, callee, addr string) *grpc.ClientConn {
	t.Helper()
	return dial(t, addr, append(r.out.DialOptions(callee), r.tel.DialOptions()...)...)
}

// dial connects someone from outside of the mesh.
func dial(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// scrape is the replica's /metrics.
func (r *replica) scrape(t *testing.T) string {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	r.tel.MetricsHandler().ServeHTTP(w, req)
	return w.Body.String()
}

// wants looks for a line in the metrics that starts with the given text.
func wants(t *testing.T, metrics string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(metrics, "\n"+line) {
			t.Errorf("the metrics have no line %s", line)
		}
	}
}

type sessions struct {
	sessionv1.UnimplementedSessionServiceServer
	touch  func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error)
	signIn func(context.Context, *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error)
}

func (s sessions) Touch(ctx context.Context, r *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
	return s.touch(ctx, r)
}

func (s sessions) SignIn(ctx context.Context, r *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
	return s.signIn(ctx, r)
}

type seats struct {
	inventoryv1.UnimplementedInventoryServiceServer
	hold func(context.Context, *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error)
}

func (s seats) Hold(ctx context.Context, r *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
	return s.hold(ctx, r)
}

func goodHold() *inventoryv1.HoldRequest {
	return &inventoryv1.HoldRequest{HoldId: "h-1", ShowId: "opening-night", SeatIds: []string{"B-3"}}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was waited for did not happen in 20s")
		}
	}
}

package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

func export(t *testing.T, s *Store, parts ...*tracepb.ResourceSpans) *coltracepb.ExportTraceServiceResponse {
	t.Helper()
	resp, err := s.Export(t.Context(), &coltracepb.ExportTraceServiceRequest{ResourceSpans: parts})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// of makes a one-span trace numbered n that lasts ms milliseconds.
func of(n byte, ms float64) *tracepb.ResourceSpans {
	s := span(uint64(n), 0, fmt.Sprintf("root %d", n), server, float64(n), float64(n)+ms)
	s.TraceId = traceID(n)
	return from("gateway", "1", s)
}

func idOf(n byte) string { return fmt.Sprintf("%032x", n) }

func TestStoreForgetsTheTraceThatWasQuietForLongest(t *testing.T) {
	s := NewStore(2)
	export(t, s, of(1, 1))
	export(t, s, of(2, 1))
	more := from("order", "1", span(99, 1, "more", server, 1, 2))
	export(t, s, more) // trace 1 is heard of again
	export(t, s, of(3, 1))
	if s.Get(idOf(2)) != nil || s.Get(idOf(1)) == nil || s.Get(idOf(3)) == nil {
		t.Errorf("want traces 1 and 3 kept and 2 forgotten, got %v", s.List(false, 0))
	}
	if got := Build(s.Get(idOf(1))).Spans; got != 2 {
		t.Errorf("trace 1: got %d spans, want 2", got)
	}
}

func TestStoreStaysWithinItsBytes(t *testing.T) {
	s := NewStore(1000)
	s.maxBytes = 10 * proto.Size(of(1, 1))
	for n := range byte(100) {
		export(t, s, of(n+1, 1))
		if s.bytes > s.maxBytes {
			t.Fatalf("after %d traces: %d bytes, want at most %d", n+1, s.bytes, s.maxBytes)
		}
	}
	if got := len(s.List(false, 0)); got < 8 || got > 10 {
		t.Errorf("got %d traces, want what fits: 8 to 10", got)
	}
	// One endless trace pushes the others out, then loses its own later spans.
	for n := range 50 {
		export(t, s, from("gateway", "1", span(uint64(n+1), 0, "a", server, 0, 1)))
	}
	if s.bytes > s.maxBytes {
		t.Errorf("an endless trace: %d bytes, want at most %d", s.bytes, s.maxBytes)
	}
	if kept := Build(s.Get(idOf(1))).Spans; int64(kept)+s.Dropped() != 50 || kept == 0 {
		t.Errorf("kept %d and dropped %d spans, want 50 in all", kept, s.Dropped())
	}
}

func TestStoreSortsSpansByTraceAndRefusesBadOnes(t *testing.T) {
	s := NewStore(10)
	other := span(2, 0, "b", server, 0, 1)
	other.TraceId = traceID(2)
	bad := span(3, 0, "c", server, 0, 1)
	bad.TraceId = bad.TraceId[:15]
	resp := export(t, s, from("gateway", "1", span(1, 0, "a", server, 0, 1), other, bad))
	if got := resp.GetPartialSuccess().GetRejectedSpans(); got != 1 {
		t.Errorf("refused: got %d, want 1", got)
	}
	export(t, s, from("gateway", "1", span(1, 0, "a", server, 0, 1))) // exported again
	for _, n := range []byte{1, 2} {
		if got := Build(s.Get(idOf(n))).Spans; got != 1 {
			t.Errorf("trace %d: got %d spans, want 1", n, got)
		}
	}
	if got := s.List(false, 0)[0].Spans; got != 1 {
		t.Errorf("summary counts a span that came twice: got %d", got)
	}
}

func TestStoreLists(t *testing.T) {
	s := NewStore(10)
	export(t, s, of(1, 30), of(2, 50), of(3, 10))
	export(t, s, from("gateway", "1", failed(span(7, 1, "late child", consumer, 1, 41), "x")))
	for _, tc := range []struct {
		slowest bool
		n       int
		want    []byte
	}{{false, 0, []byte{3, 2, 1}}, {true, 0, []byte{2, 1, 3}}, {true, 1, []byte{2}}, {false, 9, []byte{3, 2, 1}}} {
		got := s.List(tc.slowest, tc.n)
		if len(got) != len(tc.want) {
			t.Errorf("List(%v, %d): got %d traces, want %d", tc.slowest, tc.n, len(got), len(tc.want))
			continue
		}
		for i, n := range tc.want {
			if got[i].TraceId != idOf(n) {
				t.Errorf("List(%v, %d)[%d]: got %s, want %s", tc.slowest, tc.n, i, got[i].TraceId, idOf(n))
			}
		}
	}
	one := s.List(true, 0)[1]
	if one.RootName != "root 1" || one.RootService != "gateway" || one.Spans != 2 || one.Duration.AsDuration() != 40*time.Millisecond || one.Failed {
		t.Errorf("summary of trace 1: got %v", one)
	}
}

// collector is a trace service over real gRPC that takes a request only when
// the test lets it.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	export func(context.Context, *coltracepb.ExportTraceServiceRequest) error
}

func (c *collector) Export(ctx context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	return &coltracepb.ExportTraceServiceResponse{}, c.export(ctx, req)
}

func serve(t *testing.T, srv coltracepb.TraceServiceServer) (address string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(g, srv)
	var done sync.WaitGroup
	done.Go(func() { _ = g.Serve(lis) })
	t.Cleanup(func() { g.Stop(); done.Wait() })
	return lis.Addr().String()
}

// closeWithin closes f and fails the test when the queue is not sent in time.
func closeWithin(t *testing.T, f *Forwarder, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestARealExporterReachesStoreAndCollector(t *testing.T) {
	var mu sync.Mutex
	var forwarded []*tracepb.ResourceSpans
	peer := serve(t, &collector{export: func(_ context.Context, req *coltracepb.ExportTraceServiceRequest) error {
		mu.Lock()
		defer mu.Unlock()
		forwarded = append(forwarded, req.ResourceSpans...)
		return nil
	}})
	f, err := NewForwarder("http://"+peer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(10)
	s.ForwardTo(f)

	exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(serve(t, s)), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "gateway"))))
	tracer := provider.Tracer("test")
	ctx, root := tracer.Start(t.Context(), "checkout")
	_, child := tracer.Start(ctx, "hold")
	child.SetStatus(codes.Error, "seat is taken")
	child.End()
	root.End()
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeWithin(t, f, 10*time.Second)

	id := root.SpanContext().TraceID().String()
	tree := Build(s.Get(id))
	if got := sketch(tree.Roots); got != "checkout(hold)" {
		t.Fatalf("kept: got %q", got)
	}
	if hold := tree.Roots[0].Children[0]; !hold.Failed || hold.Reason != "seat is taken" || hold.Service != "gateway" {
		t.Errorf("child: got %+v", hold)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := sketch(Build(forwarded).Roots); got != "checkout(hold)" {
		t.Errorf("forwarded: got %q", got)
	}
	if f.Dropped() != 0 {
		t.Errorf("dropped: got %d, want 0", f.Dropped())
	}
}

func TestForwarderNeverBlocksAndCountsWhatItDrops(t *testing.T) {
	began, release := make(chan struct{}, 1), make(chan struct{})
	peer := serve(t, &collector{export: func(context.Context, *coltracepb.ExportTraceServiceRequest) error {
		select {
		case began <- struct{}{}:
		default:
		}
		<-release
		return nil
	}})
	f, err := NewForwarder("http://"+peer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	req := &coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{of(1, 1)}}
	f.Offer(req)
	<-began // one is on its way and the queue is empty
	for range forwardQueue + 10 {
		f.Offer(req)
	}
	if got := f.Dropped(); got != 10 {
		t.Errorf("dropped: got %d, want 10", got)
	}
	close(release)
	closeWithin(t, f, 10*time.Second)
	f.Offer(req)
	if got := f.Dropped(); got != 11 {
		t.Errorf("dropped after Close: got %d, want 11", got)
	}
}

func TestForwarderCountsWhatTheCollectorRefuses(t *testing.T) {
	peer := serve(t, &collector{export: func(context.Context, *coltracepb.ExportTraceServiceRequest) error {
		return errors.New("full")
	}})
	f, err := NewForwarder("http://"+peer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.Offer(&coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{of(1, 1)}})
	closeWithin(t, f, 10*time.Second)
	if got := f.Dropped(); got != 1 {
		t.Errorf("dropped: got %d, want 1", got)
	}
}

func TestForwarderCloseIsBounded(t *testing.T) {
	peer := serve(t, &collector{export: func(ctx context.Context, _ *coltracepb.ExportTraceServiceRequest) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	f, err := NewForwarder("http://"+peer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.Offer(&coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{of(1, 1)}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if got := f.Dropped(); got != 3 {
		t.Errorf("dropped: got %d, want 3", got)
	}
}

func TestNewForwarderNamesABadEndpoint(t *testing.T) {
	for _, endpoint := range []string{"", "localhost:4317", "ftp://x:1", "http://", "http://a b"} {
		if _, err := NewForwarder(endpoint, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("NewForwarder(%q): want an error", endpoint)
		}
	}
}

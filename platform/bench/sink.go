package bench

import (
	"context"
	"net"
	"sync/atomic"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// Sink takes OTLP traces and throws them away, so that what is measured includes exporting them.
type Sink struct {
	coltracepb.UnimplementedTraceServiceServer
	server *grpc.Server
	addr   string
	spans  atomic.Int64
}

// NewSink serves on a free port.
func NewSink() (*Sink, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{server: grpc.NewServer(), addr: lis.Addr().String()}
	coltracepb.RegisterTraceServiceServer(s.server, s)
	go func() { _ = s.server.Serve(lis) }() // ends with Close; a failure shows as no spans
	return s, nil
}

// Export counts the spans of a request.
func (s *Sink) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	for _, r := range req.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			s.spans.Add(int64(len(scope.GetSpans())))
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// Endpoint is the value of OTEL_EXPORTER_OTLP_ENDPOINT.
func (s *Sink) Endpoint() string { return "http://" + s.addr }

// Spans is how many spans have come in.
func (s *Sink) Spans() int64 { return s.spans.Load() }

// Close ends the sink.
func (s *Sink) Close() { s.server.Stop() }

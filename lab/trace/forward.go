package trace

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// forwardQueue is how many requests wait for a slow collector. A request of
	// the mesh carries up to 512 spans.
	forwardQueue = 256
	// forwardTimeout bounds one request to the collector.
	forwardTimeout = 5 * time.Second
)

// Forwarder passes OTLP requests on to another collector, such as Jaeger. It
// never holds up the one who offers: what does not fit its queue, and what the
// collector does not take, is dropped and counted. Safe for concurrent use.
type Forwarder struct {
	client   coltracepb.TraceServiceClient
	conn     *grpc.ClientConn
	log      *slog.Logger
	endpoint string

	queue   chan *coltracepb.ExportTraceServiceRequest
	cancel  context.CancelFunc
	done    sync.WaitGroup
	mu      sync.RWMutex // guards closed and sending on queue
	closed  bool
	dropped atomic.Int64
}

// NewForwarder makes a forwarder to an endpoint as OTEL_EXPORTER_OTLP_ENDPOINT
// writes it: http://host:port or https://host:port, spoken to over gRPC. The
// collector need not be there yet. Close ends it.
func NewForwarder(endpoint string, log *slog.Logger) (*Forwarder, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("trace endpoint %q: give http://host:port or https://host:port", endpoint)
	}
	creds := insecure.NewCredentials()
	if u.Scheme == "https" {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, fmt.Errorf("trace endpoint %q: %w", endpoint, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Forwarder{
		client:   coltracepb.NewTraceServiceClient(conn),
		conn:     conn,
		log:      log,
		endpoint: endpoint,
		queue:    make(chan *coltracepb.ExportTraceServiceRequest, forwardQueue),
		cancel:   cancel,
	}
	f.done.Go(func() { f.run(ctx) })
	return f, nil
}

// Offer queues a request, or drops it when the queue is full or closed.
func (f *Forwarder) Offer(req *coltracepb.ExportTraceServiceRequest) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !f.closed {
		select {
		case f.queue <- req:
			return
		default:
		}
	}
	f.drop(req)
}

// Dropped is how many spans did not reach the collector.
func (f *Forwarder) Dropped() int64 { return f.dropped.Load() }

// Close sends what is queued until ctx ends, then lets go of the connection.
func (f *Forwarder) Close(ctx context.Context) error {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.queue)
	}
	f.mu.Unlock()
	stop := context.AfterFunc(ctx, f.cancel)
	defer stop()
	f.done.Wait()
	f.cancel()
	return f.conn.Close()
}

func (f *Forwarder) run(ctx context.Context) {
	failing := false
	for req := range f.queue {
		if ctx.Err() != nil {
			f.drop(req)
			continue
		}
		callCtx, cancel := context.WithTimeout(ctx, forwardTimeout)
		_, err := f.client.Export(callCtx, req)
		cancel()
		if err != nil {
			f.drop(req)
		}
		// One line when it begins to fail and one when it is well again.
		if failed := err != nil; failed != failing {
			failing = failed
			if failed {
				f.log.Warn("traces do not reach the collector", "endpoint", f.endpoint, "error", err)
			} else {
				f.log.Info("traces reach the collector again", "endpoint", f.endpoint, "dropped_spans", f.Dropped())
			}
		}
	}
}

func (f *Forwarder) drop(req *coltracepb.ExportTraceServiceRequest) {
	n := 0
	for _, rs := range req.GetResourceSpans() {
		n += countSpans(rs)
	}
	f.dropped.Add(int64(n))
}

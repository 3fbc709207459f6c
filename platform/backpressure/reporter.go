package backpressure

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
)

// The values of the knob backpressure.mode.
const (
	off = "off"
	on  = "on"
)

// silent is the pressure that is noted of a callee whose answer did not come in time, and with it no word: it has more to do
// than it can, nobody knows how much more.
const silent = 1.25

// Limit tells how many calls a second a replica can serve now; 0 when it knows no limit.
type Limit func() float64

// Reporter measures a replica's pressure and tells it to callers, and notes what callees tell. It is safe for concurrent
// use.
type Reporter struct {
	mode  *knobs.Choice
	calls Meter

	mu     sync.Mutex
	limits []Limit
}

// New returns a reporter. It declares the knob backpressure.mode in set: at its default, off, nothing is counted and
// nothing is told.
func New(set *knobs.Set, reg prometheus.Registerer) (*Reporter, error) {
	r := &Reporter{mode: set.Choice("backpressure.mode", off, []string{off, on},
		"answers tell how pressed the replica and what it depends on are")}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spillway_backpressure_pressure_ratio",
		Help: "Calls offered to this replica in the last second over those that it can serve, as it tells its callers; 0 while it tells nothing.",
	}, func() float64 { return r.Pressure(time.Now()) })
	if err := reg.Register(gauge); err != nil {
		return nil, fmt.Errorf("register the metric of back-pressure: %w", err)
	}
	return r, nil
}

// Limit adds one to what bounds the replica; the tightest counts.
func (r *Reporter) Limit(l Limit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits = append(r.limits, l)
}

// Pressure is the replica's own pressure at now.
func (r *Reporter) Pressure(now time.Time) (highest float64) {
	offered := r.calls.Rate(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, limit := range r.limits {
		if l := limit(); l > 0 {
			highest = max(highest, offered/l)
		}
	}
	return highest
}

// begin counts a call and gives it what it notes pressures in, which an admission before it may have done; nil while
// nothing is told.
func (r *Reporter) begin(ctx context.Context) (context.Context, *Tightest) {
	if r.mode.Get() == off {
		return ctx, nil
	}
	r.calls.Count(time.Now())
	if t := from(ctx); t != nil {
		return ctx, t
	}
	t := &Tightest{}
	return With(ctx, t), t
}

// trailer is what the answer of a call tells.
func (r *Reporter) trailer(t *Tightest) metadata.MD {
	t.Note(r.Pressure(time.Now()))
	return metadata.MD{Header: {Text(t.Pressure())}}
}

// UnaryServer tells the pressure with the answer of a unary call, refusals of what comes after it in the chain included.
func (r *Reporter) UnaryServer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, t := r.begin(ctx)
	resp, err := handler(ctx, req)
	if t != nil {
		_ = grpc.SetTrailer(ctx, r.trailer(t)) // fails only when the answer has gone out, which is after this
	}
	return resp, err
}

// StreamServer tells the pressure at the end of a stream.
func (r *Reporter) StreamServer(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, t := r.begin(ss.Context())
	if t == nil {
		return handler(srv, ss)
	}
	err := handler(srv, stream{ss, ctx})
	ss.SetTrailer(r.trailer(t))
	return err
}

// stream is a stream that goes on under another context.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

// UnaryClient notes what the callee of a unary call tells, for the call that is being handled.
func (r *Reporter) UnaryClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	t := from(ctx)
	if t == nil {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	var md metadata.MD
	err := invoker(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Trailer(&md))...)
	switch pressure, told := fromTrailer(md); {
	case told:
		t.Note(pressure)
	case status.Code(err) == codes.DeadlineExceeded:
		t.Note(silent)
	}
	return err
}

// StreamClient notes nothing: no stream of the mesh has an end that an edge waits for.
func (r *Reporter) StreamClient(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(ctx, desc, cc, method, opts...)
}

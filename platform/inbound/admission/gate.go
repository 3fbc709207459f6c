package admission

import (
	"context"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/backpressure"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/refusal"
)

// The values of the knob admission.mode.
const (
	off   = "off"
	route = "route"
)

// answer is what calls get that are turned away: a decision stands for a second.
var answer = refusal.Overloaded("admission", period, "what this needs has more to do than it can; try later")

// Gate decides for all routes of an edge. It is safe for concurrent use.
type Gate struct {
	mode    *knobs.Choice
	refused *refusal.By
	open    *prometheus.GaugeVec

	mu     sync.Mutex
	valves map[string]*valve // by full method name; the contract bounds how many there are
}

// New returns a gate. It declares the knob admission.mode in set; at its default, off, every call passes. It goes by
// what package backpressure hears, so that must be on too, in every service.
func New(set *knobs.Set, reg prometheus.Registerer, refused *refusal.Counter) (*Gate, error) {
	g := &Gate{
		mode: set.Choice("admission.mode", off, []string{off, route},
			"route: calls are turned away at the edge, by route, as the pressure says that answers bring back (needs backpressure.mode on everywhere)"),
		refused: refused.Inbound("admission"),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spillway_admission_open_ratio",
			Help: "Part of the calls of a route that the edge lets in, 0.02 to 1.",
		}, []string{"grpc_method"}),
		valves: make(map[string]*valve),
	}
	g.mode.OnChange(func(string) {
		g.mu.Lock()
		defer g.mu.Unlock()
		clear(g.valves)
		g.open.Reset()
	})
	if err := reg.Register(g.open); err != nil {
		return nil, fmt.Errorf("register the metric of admission: %w", err)
	}
	return g, nil
}

// admit decides on a call of method that comes at now.
func (g *Gate) admit(ctx context.Context, method string, now time.Time) bool {
	rank := criticality.Rank(criticality.From(ctx))
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.valves[method]
	if v == nil {
		v = newValve()
		g.valves[method] = v
	}
	before := v.begin
	admitted := v.admit(now, rank)
	if v.begin != before {
		g.open.WithLabelValues(path.Base(method)).Set(v.open)
	}
	return admitted
}

// hear takes note of what the answer of a call of method told at now.
func (g *Gate) hear(method string, t *backpressure.Tightest, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v, pressure := g.valves[method], t.Pressure(); v != nil && pressure > 0 {
		v.hear(now, pressure)
	}
}

// Unary is the interceptor of unary calls.
func (g *Gate) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if g.mode.Get() == off {
		return handler(ctx, req)
	}
	if !g.admit(ctx, info.FullMethod, time.Now()) {
		g.refused.Count(ctx)
		return nil, answer
	}
	t := &backpressure.Tightest{}
	resp, err := handler(backpressure.With(ctx, t), req)
	g.hear(info.FullMethod, t, time.Now())
	return resp, err
}

// Stream passes streams by: no route of an edge is one.
func (g *Gate) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, ss)
}

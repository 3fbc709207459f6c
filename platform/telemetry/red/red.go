// Package red counts and times calls on both of their ends: rate, errors and
// duration by caller and callee, so that every edge of the mesh can be drawn
// from metrics alone.
//
// Names and labels are those of go-grpc-middleware's Prometheus provider, with
// caller and callee added. The provider itself looks up five label sets on
// every call; here the counters of a method are found once and kept, on the
// same framework (interceptors.Reporter).
package red

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
	"spillway.dev/platform/telemetry"
)

// maxPeers bounds the caller and callee labels: a name comes from outside, and
// each costs a set of series. Peers past it are counted together as "other".
const maxPeers = 64

const otherPeer = "other"

// Calls holds the metrics of one end of a service's calls. Safe for concurrent
// use; what it allocates for a call is one small struct.
type Calls struct {
	started, handled, attempts *prometheus.CounterVec
	seconds                    *prometheus.HistogramVec

	// known is copied on write: it changes only while methods are first called.
	known atomic.Pointer[map[edge]*series]
	mu    sync.Mutex
	peers map[string]bool
}

type edge struct {
	peer, service, method string
	kind                  interceptors.GRPCType
}

// NewServer registers grpc_server_started_total, grpc_server_handled_total and
// grpc_server_handling_seconds for calls into service.
func NewServer(service string, reg prometheus.Registerer) (*Calls, error) {
	return newCalls("server", "callee", service, "caller", reg)
}

// NewClient registers the same for calls out of service, as grpc_client_*, and
// grpc_client_attempts_total.
func NewClient(service string, reg prometheus.Registerer) (*Calls, error) {
	return newCalls("client", "caller", service, "callee", reg)
}

func newCalls(side, ownLabel, service, peerLabel string, reg prometheus.Registerer) (*Calls, error) {
	own := prometheus.Labels{ownLabel: service}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grpc_" + side + "_" + name, Help: help, ConstLabels: own},
			append([]string{"grpc_type", "grpc_service", "grpc_method", peerLabel}, labels...))
	}
	c := &Calls{
		started: counter("started_total", "Calls begun on the "+side+"."),
		handled: counter("handled_total", "Calls ended on the "+side+", by status code.", "grpc_code"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grpc_" + side + "_handling_seconds", Help: "Duration of calls on the " + side + ", retries included.",
			Buckets: telemetry.Buckets(), ConstLabels: own,
		}, []string{"grpc_type", "grpc_service", "grpc_method", peerLabel}),
		peers: make(map[string]bool),
	}
	c.known.Store(&map[edge]*series{})
	all := []prometheus.Collector{c.started, c.handled, c.seconds}
	if side == "client" {
		c.attempts = counter("attempts_total", "Attempts sent for calls; more than the calls begun when some are retried.")
		all = append(all, c.attempts)
	}
	for _, m := range all {
		if err := reg.Register(m); err != nil {
			return nil, fmt.Errorf("register the %s metrics of calls: %w", side, err)
		}
	}
	return c, nil
}

// Peer reports the calls of one peer: the caller on the server, the callee on
// the client. peer is asked for on each call.
func (c *Calls) Peer(peer func(context.Context) string) interceptors.CommonReportableFunc {
	return func(ctx context.Context, meta interceptors.CallMeta) (interceptors.Reporter, context.Context) {
		s := c.of(edge{peer(ctx), meta.Service, meta.Method, meta.Typ})
		s.started.Inc()
		return &report{series: s, ctx: ctx}, ctx
	}
}

// Attempt counts one attempt of a call to callee. Only for clients.
func (c *Calls) Attempt(callee string) interceptors.CommonReportableFunc {
	return func(ctx context.Context, meta interceptors.CallMeta) (interceptors.Reporter, context.Context) {
		c.of(edge{callee, meta.Service, meta.Method, meta.Typ}).attempts.Inc()
		return interceptors.NoopReporter{}, ctx
	}
}

func (c *Calls) of(e edge) *series {
	if s, ok := (*c.known.Load())[e]; ok {
		return s
	}
	return c.add(e)
}

func (c *Calls) add(e edge) *series {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.peers[e.peer] {
		if len(c.peers) >= maxPeers {
			e.peer = otherPeer
		} else {
			c.peers[e.peer] = true
		}
	}
	known := *c.known.Load()
	if s, ok := known[e]; ok {
		return s
	}
	s := &series{
		labels:  [4]string{string(e.kind), e.service, e.method, e.peer},
		handled: c.handled,
	}
	s.started = c.started.WithLabelValues(s.labels[:]...)
	s.seconds = c.seconds.WithLabelValues(s.labels[:]...)
	if c.attempts != nil {
		s.attempts = c.attempts.WithLabelValues(s.labels[:]...)
	}
	grown := make(map[edge]*series, len(known)+1)
	for k, v := range known {
		grown[k] = v
	}
	grown[e] = s
	c.known.Store(&grown)
	return s
}

// series is what is counted about one edge.
type series struct {
	labels            [4]string
	started, attempts prometheus.Counter
	seconds           prometheus.Observer
	handled           *prometheus.CounterVec
	byCode            [codes.Unauthenticated + 1]atomic.Pointer[prometheus.Counter]
}

func (s *series) count(code codes.Code) prometheus.Counter {
	if code > codes.Unauthenticated {
		code = codes.Unknown
	}
	if c := s.byCode[code].Load(); c != nil {
		return *c
	}
	c := s.handled.WithLabelValues(s.labels[0], s.labels[1], s.labels[2], s.labels[3], code.String())
	s.byCode[code].Store(&c)
	return c
}

// report is one call.
type report struct {
	interceptors.NoopReporter
	series *series
	ctx    context.Context
}

// PostCall implements interceptors.Reporter.
func (r *report) PostCall(err error, took time.Duration) {
	code := codes.OK
	if err != nil {
		code = problem.From(err).Code
	}
	r.series.count(code).Inc()
	telemetry.Observe(r.ctx, r.series.seconds, took.Seconds())
}

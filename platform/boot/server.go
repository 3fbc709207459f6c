package boot

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"

	"spillway.dev/platform/health"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/inbound"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/telemetry"
)

const (
	// maxMessage is the largest message, in bytes, that a server takes; requests of this mesh are some hundred. A larger
	// one is refused by the transport, before it is decoded and before any interceptor, with RESOURCE_EXHAUSTED;
	// problem.From calls that MESSAGE_TOO_LARGE.
	maxMessage = 1 << 20
	// minPing is how often a caller may ask whether an idle connection is alive; outbound asks every 10 s.
	minPing = 5 * time.Second
	// connectionGrace is how long the calls of a connection that has reached its age may take to end; the longest deadline
	// that people can ask for.
	connectionGrace = 10 * time.Second
	// notYet is how long a caller that came too early is told to wait.
	notYet = 100 * time.Millisecond
)

// serverOptions are what a call passes before it reaches a handler: the limits of the transport, telemetry, the gate, and
// then the inbound chain.
func serverOptions(tel *telemetry.Telemetry, in *inbound.Chain, g gate, maxAge time.Duration) []grpc.ServerOption {
	return slices.Concat(tel.ServerOptions(), []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.StaticStreamWindowSize(outbound.Window),
		grpc.StaticConnWindowSize(outbound.Window),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// A connection that says nothing is not kept: neither one that never begins HTTP/2, nor one whose peer is gone.
		grpc.ConnectionTimeout(5 * time.Second),
		// The age of a connection varies by a tenth to both sides, so that those made together do not end together; 0 is
		// for ever.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second,
			MaxConnectionAge: maxAge, MaxConnectionAgeGrace: connectionGrace,
		}),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	}, in.ServerOptions())
}

// gate stands before the chain. It refuses calls until the replica serves, drops caller names that come from outside, and
// sees to it that only problems leave: the code, reason and message of a problem, and of other errors nothing at all.
type gate struct {
	open *atomic.Bool
	edge bool
}

// pass decides on one call.
func (g gate) pass(ctx context.Context, method string) (context.Context, error) {
	if !g.open.Load() && !telemetry.Infrastructure(method) {
		return ctx, problem.New(codes.Unavailable, problem.NotServingYet, "this replica is not serving yet").Retry(notYet)
	}
	if g.edge {
		ctx = identity.Outside(ctx)
	}
	return ctx, nil
}

func (g gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := g.pass(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	resp, err := handler(ctx, req)
	return resp, problem.Wire(err)
}

func (g gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := g.pass(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return problem.Wire(handler(srv, streamWithContext{stream, ctx}))
}

type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamWithContext) Context() context.Context { return s.ctx }

// newHTTPServer has the limits that keep one slow or greedy peer from holding a connection for ever.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// adminHandler serves what operators and Prometheus ask for.
func (r *replica) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", r.scraped.watch(r.app.telemetry.MetricsHandler()))
	mux.HandleFunc("GET /healthz", r.healthz)
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {}) // for who cannot ask gRPC: see probes under mutual TLS
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// healthz gives the replica's state as JSON; the HTTP status is 200 while serving and 503 otherwise.
func (r *replica) healthz(w http.ResponseWriter, _ *http.Request) {
	state := r.health.State()
	body := struct {
		Service  string `json:"service"`
		Instance string `json:"instance"`
		Zone     string `json:"zone,omitempty"`
		State    string `json:"state"`
	}{r.app.name, r.app.instance, r.cfg.Zone, state.String()}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if state != health.Serving {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the peer hung up
}

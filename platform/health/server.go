package health

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Names that are always known, besides "" and the services.
const (
	Liveness = "liveness"
	Startup  = "startup"
)

// Server serves the state of one replica as grpc.health.v1. Check and List are grpc-go's own. Two things are ours:
// grpc-go's Shutdown would turn liveness off too, so states set each name themselves; and a grpc-go Watch ends only when
// its client ends it, which would hold GracefulStop up to the drain's deadline, so here the drain ends it (EndWatches).
// It is safe for concurrent use.
type Server struct {
	healthpb.UnimplementedHealthServer
	names *health.Server // keeps what each name says, and who watches it

	mu       sync.Mutex
	state    State
	doubted  bool
	services []string
	ended    context.Context
	end      context.CancelFunc
}

// NewServer returns a server in state Starting that speaks for no service yet.
func NewServer() *Server {
	ended, end := context.WithCancel(context.Background())
	s := &Server{names: health.NewServer(), ended: ended, end: end}
	s.publish(Starting)
	return s
}

// Speak adds services, by their full names, to those whose readiness is told.
func (s *Server) Speak(services ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = append(s.services, services...)
	s.publish(s.state)
}

// State gives the present state.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Set goes to the next state and tells all watchers. It refuses to go back or to leave a state out, except that
// Draining follows any other.
func (s *Server) Set(to State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := next(s.state, to); err != nil {
		return err
	}
	s.state = to
	s.publish(to)
	return nil
}

// Doubt says whether the replica is held not to be ready for calls although it serves: readiness that looks beyond the
// replica itself. It has no say in any other state, nor in liveness and startup.
func (s *Server) Doubt(doubted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubted != doubted {
		s.doubted = doubted
		s.publish(s.state)
	}
}

func (s *Server) publish(state State) {
	ready := serving(state == Serving && !s.doubted)
	s.names.SetServingStatus("", ready)
	for _, name := range s.services {
		s.names.SetServingStatus(name, ready)
	}
	s.names.SetServingStatus(Liveness, serving(true))
	switch state {
	case Starting, Warming:
		s.names.SetServingStatus(Startup, serving(false))
	case Serving: // and it stays when draining follows
		s.names.SetServingStatus(Startup, serving(true))
	}
}

func serving(yes bool) healthpb.HealthCheckResponse_ServingStatus {
	if yes {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// EndWatches ends every Watch, now and from now on, after its client was told the last status. The drain calls it before
// the server stops.
func (s *Server) EndWatches() { s.end() }

// Check tells the status of one name; NotFound for a name that nobody has.
func (s *Server) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	s.mu.Lock() // a change of state changes several names, and is seen whole
	defer s.mu.Unlock()
	return s.names.Check(ctx, req)
}

// List tells the status of every name.
func (s *Server) List(ctx context.Context, req *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names.List(ctx, req)
}

// Watch streams the status of a name until its client, or EndWatches, ends it; in the latter case it ends with
// Unavailable, upon which clients of the health protocol watch again elsewhere.
func (s *Server) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ended, cancel)()
	w := &watch{ServerStreamingServer: stream, ctx: ctx, last: -1}
	err := s.names.Watch(req, w)
	if s.ended.Err() == nil || stream.Context().Err() != nil {
		return err
	}
	if now, err := s.Check(stream.Context(), req); err == nil && now.GetStatus() != w.last {
		if err := w.Send(now); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "this replica is draining; watch another")
}

// watch is a Watch stream that the drain can end and that knows what its client was told last.
type watch struct {
	grpc.ServerStreamingServer[healthpb.HealthCheckResponse]
	ctx  context.Context
	last healthpb.HealthCheckResponse_ServingStatus
}

func (w *watch) Context() context.Context { return w.ctx }

func (w *watch) Send(r *healthpb.HealthCheckResponse) error {
	w.last = r.GetStatus()
	return w.ServerStreamingServer.Send(r)
}

package health

import (
	"context"
	"fmt"
	"maps"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStatesAreEnteredInOrder(t *testing.T) {
	all := []State{Starting, Warming, Serving, Draining}
	allowed := map[[2]State]bool{
		{Starting, Warming}: true, {Warming, Serving}: true, {Serving, Draining}: true,
		{Starting, Draining}: true, {Warming, Draining}: true,
	}
	for _, from := range all {
		for _, to := range append(all, Draining+1, -1) {
			if err := next(from, to); (err == nil) != allowed[[2]State{from, to}] {
				t.Errorf("from %v to %v: %v", from, to, err)
			}
		}
	}
}

// serve runs a health server and gives a client of it.
func serve(t *testing.T, s *Server) healthpb.HealthClient {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///health",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.EndWatches()
		server.GracefulStop() // would hang on a watch that nobody ends
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return healthpb.NewHealthClient(conn)
}

const (
	up   = healthpb.HealthCheckResponse_SERVING
	down = healthpb.HealthCheckResponse_NOT_SERVING
)

func TestWhatEachNameSaysInEachState(t *testing.T) {
	type statuses = map[string]healthpb.HealthCheckResponse_ServingStatus
	const service = "spillway.order.v1.OrderService"
	s := NewServer()
	client := serve(t, s)
	s.Speak(service)
	expect := func(want statuses) {
		t.Helper()
		list, err := client.List(t.Context(), &healthpb.HealthListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		listed := statuses{}
		for name, r := range list.GetStatuses() {
			listed[name] = r.GetStatus()
		}
		if !maps.Equal(listed, want) {
			t.Errorf("in state %v List says %v, want %v", s.State(), listed, want)
		}
		for name, status := range want {
			got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			if err != nil || got.GetStatus() != status {
				t.Errorf("in state %v Check of %q says %v, %v; want %v", s.State(), name, got.GetStatus(), err, status)
			}
		}
	}
	expect(statuses{"": down, service: down, Startup: down, Liveness: up})
	for _, state := range []State{Warming, Serving, Draining} {
		if err := s.Set(state); err != nil {
			t.Fatal(err)
		}
		switch state {
		case Warming:
			expect(statuses{"": down, service: down, Startup: down, Liveness: up})
		case Serving:
			expect(statuses{"": up, service: up, Startup: up, Liveness: up})
		case Draining:
			expect(statuses{"": down, service: down, Startup: up, Liveness: up})
		}
	}
	if err := s.Set(Serving); err == nil || s.State() != Draining {
		t.Errorf("a draining replica serves again: %v", err)
	}
	if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("a name that nobody has: %v", err)
	}
}

// TestAChangeIsSeenWhole asks for all names while the state changes: they must not contradict each other.
func TestAChangeIsSeenWhole(t *testing.T) {
	for range 50 {
		s := NewServer()
		for i := range 50 { // many names, so that a change takes a while
			s.Speak(fmt.Sprint("service", i))
		}
		if err := s.Set(Warming); err != nil {
			t.Fatal(err)
		}
		changed := make(chan error)
		go func() { changed <- s.Set(Serving) }()
		for ready := false; !ready; {
			list, err := s.List(t.Context(), &healthpb.HealthListRequest{})
			if err != nil {
				t.Fatal(err)
			}
			ready = list.GetStatuses()[""].GetStatus() == up
			for name, r := range list.GetStatuses() {
				if name != Liveness && (r.GetStatus() == up) != ready {
					t.Fatalf("%q is %v while readiness is %v", name, r.GetStatus(), ready)
				}
			}
		}
		if err := <-changed; err != nil {
			t.Fatal(err)
		}
	}
}

func TestDoubtConcernsReadinessAlone(t *testing.T) {
	const service = "spillway.order.v1.OrderService"
	s := NewServer()
	client := serve(t, s)
	s.Speak(service)
	s.Doubt(true)
	says := func(name string) healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetStatus()
	}
	for _, state := range []State{Warming, Serving} {
		if err := s.Set(state); err != nil {
			t.Fatal(err)
		}
	}
	if says("") != down || says(service) != down || says(Liveness) != up || says(Startup) != up {
		t.Errorf("doubted: ready %v, %v, alive %v, started %v", says(""), says(service), says(Liveness), says(Startup))
	}
	s.Doubt(false)
	if says("") != up || says(service) != up {
		t.Errorf("no longer doubted: ready %v, %v", says(""), says(service))
	}
	if err := s.Set(Draining); err != nil {
		t.Fatal(err)
	}
	s.Doubt(false)
	if says("") != down {
		t.Error("a draining replica that nobody doubts is ready")
	}
}

func TestStartupIsNotToldByAReplicaThatDrainsBeforeItServed(t *testing.T) {
	s := NewServer()
	if err := s.Set(Draining); err != nil {
		t.Fatal(err)
	}
	got, err := s.Check(t.Context(), &healthpb.HealthCheckRequest{Service: Startup})
	if err != nil || got.GetStatus() != down {
		t.Errorf("startup is %v, %v", got.GetStatus(), err)
	}
}

func TestWatchTellsEveryChangeAndEndsWithTheDrain(t *testing.T) {
	s := NewServer()
	client := serve(t, s)
	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	alive, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: Liveness})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(w grpc.ServerStreamingClient[healthpb.HealthCheckResponse], want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if got, err := w.Recv(); err != nil || got.GetStatus() != want {
			t.Fatalf("told %v, %v; want %v", got.GetStatus(), err, want)
		}
	}
	expect(watch, down)
	expect(alive, up)
	for _, state := range []State{Warming, Serving} {
		if err := s.Set(state); err != nil {
			t.Fatal(err)
		}
	}
	expect(watch, up) // warming changes nothing for ""
	if err := s.Set(Draining); err != nil {
		t.Fatal(err)
	}
	s.EndWatches() // at once: the last status must come through all the same
	expect(watch, down)
	for _, w := range []grpc.ServerStreamingClient[healthpb.HealthCheckResponse]{watch, alive} {
		if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the watch ended with %v", err)
		}
	}
	late, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	expect(late, down)
	if _, err := late.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a watch of a draining replica ended with %v", err)
	}
}

func TestWatchEndsWithItsClient(t *testing.T) {
	client := serve(t, NewServer())
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{Service: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		t.Errorf("told %v, %v", got.GetStatus(), err)
	}
	cancel()
	if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("the watch ended with %v", err)
	}
}

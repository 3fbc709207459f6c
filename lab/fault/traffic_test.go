package fault

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/mesh"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// live is a mesh of a real control plane, one real replica of order, and a gateway that calls it.
type live struct {
	*stage
	t     *testing.T
	plane *mesh.ControlPlane
	at    mesh.Endpoint
}

func (l *live) SetMeshFaults(faults map[string][]mesh.Fault) {
	l.stage.SetMeshFaults(faults)
	l.tell()
}

func (l *live) SetKnobs(knobs map[string]map[string]string) {
	l.stage.SetKnobs(knobs)
	l.tell()
}

func (l *live) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.plane.Set(mesh.State{
		Services: []mesh.Service{{Name: "order", Endpoints: []mesh.Endpoint{l.at}, Faults: l.faults["order"]}},
		Knobs:    l.knobs,
	}); err != nil {
		l.t.Error(err)
	}
}

type healthy struct {
	healthv1.UnimplementedHealthServer
}

func (healthy) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return &healthv1.HealthCheckResponse{}, nil
}

// serve runs something until the test ends.
func serve(t *testing.T, run func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func dial(t *testing.T, target string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, poll := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited 20s for: %s", what)
		case <-poll.C:
		}
	}
}

// TestFaultsReachCalls: what the injector is told is what a gRPC client and a replica's knobs then do.
func TestFaultsReachCalls(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	replica, control := listen(t), listen(t)
	address := control.Addr().String()
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, healthy{})
	serve(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, server.Stop)()
		return server.Serve(replica)
	})
	l := &live{stage: newStage(), t: t, plane: mesh.NewControlPlane(log),
		at: mesh.Endpoint{Address: "127.0.0.1", Port: uint32(replica.Addr().(*net.TCPAddr).Port)}}
	l.tell()
	serve(t, func(ctx context.Context) error { return l.plane.Serve(ctx, control) })

	set, known := knobs.NewSet(), make(chan struct{})
	slowdown := set.Float(slowdownKnob, 1, 0.1, 1000, "times the service time")
	ledger := dial(t, address)
	serve(t, func(ctx context.Context) error {
		knobs.Watch(ctx, ledger, "order", "order-1", set, log, func() { close(known) })
		return nil
	})
	<-known
	resolver, err := xds.NewXDSResolverWithConfigForTesting([]byte(mesh.Bootstrap(address, "gateway", "gateway-1")))
	if err != nil {
		t.Fatal(err)
	}
	order := healthv1.NewHealthClient(dial(t, "xds:///order", grpc.WithResolvers(resolver)))
	call := func() error {
		_, err := order.Check(t.Context(), &healthv1.HealthCheckRequest{})
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}

	i := NewInjector(l, knobv1.NewKnobServiceClient(ledger), log)
	begin(t, i, slow("order", 3), 0)
	eventually(t, "the replica to be slow", func() bool { return slowdown.Get() == 3 })
	failing := begin(t, i, Fault{Errors: &Edge{Callee: "order"}}, 0)
	eventually(t, "calls to fail", func() bool {
		err := call()
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "fault injection")
	})
	if _, err := i.Clear(t.Context(), failing.GetId()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls to succeed", func() bool { return call() == nil })
	late := Fault{Latency: &Edge{Callee: "order", Delay: 50 * time.Millisecond}}
	begin(t, i, late, 0)
	eventually(t, "calls to be late", func() bool {
		begin := time.Now()
		return call() == nil && time.Since(begin) >= 50*time.Millisecond
	})
	begin(t, i, late, time.Millisecond)
	eventually(t, "one latency to end by itself", func() bool {
		return words(i.List()) == "1 order slowed down 3×, 3 latency 50ms on every caller → order"
	})
	if err := i.Close(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "the replica to be as it was", func() bool { return slowdown.Get() == 1 })
	eventually(t, "calls to be in time", func() bool {
		begin := time.Now()
		return call() == nil && time.Since(begin) < 50*time.Millisecond
	})
}

package admission

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"spillway.dev/platform/backpressure"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answers is a service that does what a test says with every call.
type answers struct {
	healthpb.UnimplementedHealthServer
	check func(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error)
}

func (a answers) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return a.check(ctx, req)
}

// serve serves a and returns a client, until the test ends.
func serve(t *testing.T, a answers, in []grpc.UnaryServerInterceptor, out ...grpc.DialOption) healthpb.HealthClient {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(in...))
	healthpb.RegisterHealthServer(server, a)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(lis); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(lis.Addr().String(), append(out, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		serving.Wait()
	})
	return healthpb.NewHealthClient(conn)
}

// hop is a service's reporter, told to report.
func hop(t *testing.T, values map[string]string) (*backpressure.Reporter, *Gate) {
	t.Helper()
	set, reg := knobs.NewSet(), prometheus.NewRegistry()
	reporter, err := backpressure.New(set, reg)
	if err != nil {
		t.Fatal(err)
	}
	counter, err := refusal.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := New(set, reg, counter)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Apply(values); err != nil {
		t.Fatal(err)
	}
	return reporter, gate
}

// mesh is an edge, a service behind it and a store behind that, which serves 20 calls a second of a load without end.
func mesh(t *testing.T, values map[string]string) (edge healthpb.HealthClient, middle *atomic.Int64) {
	t.Helper()
	ok := func(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
		return &healthpb.HealthCheckResponse{}, nil
	}
	last, _ := hop(t, values)
	last.Limit(func() float64 { return 20 })
	store := serve(t, answers{check: ok}, []grpc.UnaryServerInterceptor{last.UnaryServer})

	between, _ := hop(t, values)
	middle = &atomic.Int64{}
	// A client of the middle's own outbound chain.
	storeConn := store
	service := serve(t, answers{check: func(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
		middle.Add(1)
		return call(ctx, between, storeConn, req)
	}}, []grpc.UnaryServerInterceptor{between.UnaryServer})

	first, gate := hop(t, values)
	edge = serve(t, answers{check: func(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
		return call(ctx, first, service, req)
	}}, []grpc.UnaryServerInterceptor{anybody, gate.Unary, first.UnaryServer})
	return edge, middle
}

// anybody gives every call a band by chance.
func anybody(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, _ = criticality.FromIncoming(ctx)
	return handler(ctx, req)
}

// call makes a call through a hop's client side.
func call(ctx context.Context, r *backpressure.Reporter, to healthpb.HealthClient, req *healthpb.HealthCheckRequest) (resp *healthpb.HealthCheckResponse, err error) {
	err = r.UnaryClient(ctx, healthpb.Health_Check_FullMethodName, req, nil, nil,
		func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
			resp, err = to.Check(ctx, req, opts...)
			return err
		})
	return resp, err
}

func TestPressureThreeHopsDownClosesTheEdge(t *testing.T) {
	edge, middle := mesh(t, map[string]string{"backpressure.mode": "on", "admission.mode": "route"})
	sent, refused := int64(0), int64(0)
	for late := time.Now().Add(30 * time.Second); refused < 100; {
		if time.Now().After(late) {
			t.Fatalf("%d calls sent, %d refused in 30 s", sent, refused)
		}
		sent++
		_, err := edge.Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			continue
		}
		refused++
		if p := problem.From(err); p.Code != codes.ResourceExhausted || p.Reason != problem.Overloaded || p.Metadata[refusal.ByKey] != "admission" || p.RetryAfter != period {
			t.Fatalf("refused with %v, metadata %v, after %v", err, p.Metadata, p.RetryAfter)
		}
	}
	if got := middle.Load(); got != sent-refused {
		t.Errorf("%d of %d calls were refused and %d came to the next service; a refused one must not", refused, sent, got)
	}
}

func TestNobodyIsRefusedWhileItIsOff(t *testing.T) {
	edge, middle := mesh(t, nil)
	// Longer than a period, at a multiple of what the store can serve.
	calls := int64(0)
	for end := time.Now().Add(3 * period / 2); time.Now().Before(end); calls++ {
		if _, err := edge.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if middle.Load() != calls {
		t.Errorf("%d calls, %d at the next service", calls, middle.Load())
	}
}

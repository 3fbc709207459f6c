package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/xds"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// eventually waits until holds, and fails the test after 20 s.
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

// serve runs a control plane until the test ends and returns its address.
func serve(t *testing.T, plane *ControlPlane, lis net.Listener) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := plane.Serve(ctx, lis); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return lis.Addr().String()
}

func set(t *testing.T, plane *ControlPlane, services ...Service) {
	t.Helper()
	if err := plane.Set(State{Services: services}); err != nil {
		t.Fatal(err)
	}
}

func newPlane(t *testing.T) *ControlPlane {
	return NewControlPlane(slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// replica is a real gRPC server. Every call carries an id of its own as the health service's name.
type replica struct {
	healthv1.UnimplementedHealthServer
	server   *grpc.Server
	endpoint Endpoint
	// hold runs inside every call; nil returns at once.
	hold  func(context.Context)
	calls atomic.Int64
	first atomic.Int64 // UnixNano of the first call
	last  atomic.Int64 // UnixNano of the last call's begin
	ids   sync.Map     // id → *atomic.Int64: how often it ran here
}

func (r *replica) Check(ctx context.Context, request *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	now := time.Now().UnixNano()
	r.first.CompareAndSwap(0, now)
	r.last.Store(now)
	r.calls.Add(1)
	ran, _ := r.ids.LoadOrStore(request.GetService(), new(atomic.Int64))
	ran.(*atomic.Int64).Add(1)
	if r.hold != nil {
		r.hold(ctx)
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

func newReplica(t *testing.T, hold func(context.Context)) *replica {
	t.Helper()
	lis := listen(t)
	r := &replica{server: grpc.NewServer(), hold: hold}
	r.endpoint = Endpoint{Address: "127.0.0.1", Port: uint32(lis.Addr().(*net.TCPAddr).Port)}
	healthv1.RegisterHealthServer(r.server, r)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := r.server.Serve(lis); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		r.server.Stop()
		serving.Wait()
	})
	return r
}

func newReplicas(t *testing.T, n int) []*replica {
	t.Helper()
	out := make([]*replica, n)
	for i := range out {
		out[i] = newReplica(t, nil)
	}
	return out
}

func endpoints(replicas ...*replica) []Endpoint {
	out := make([]Endpoint, len(replicas))
	for i, r := range replicas {
		out[i] = r.endpoint
	}
	return out
}

// client calls a service through the mesh as a service would, and keeps count.
type client struct {
	conn   *grpc.ClientConn
	health healthv1.HealthClient
	next   atomic.Int64
	failed atomic.Int64
}

func dial(t *testing.T, address, caller, service string) *client {
	t.Helper()
	resolver, err := xds.NewXDSResolverWithConfigForTesting([]byte(Bootstrap(address, caller, t.Name())))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+service, grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &client{conn: conn, health: healthv1.NewHealthClient(conn)}
}

func (c *client) call(ctx context.Context) error {
	id := strconv.FormatInt(c.next.Add(1), 10)
	_, err := c.health.Check(ctx, &healthv1.HealthCheckRequest{Service: id})
	if err != nil {
		c.failed.Add(1)
	}
	return err
}

// load calls without pause from n goroutines until stop is called, and reports every error.
func (c *client) load(t *testing.T, n int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := c.call(context.Background()); err != nil {
					t.Errorf("a call failed: %v", err)
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		callers.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// connect calls until every replica has answered, then forgets those calls.
func (c *client) connect(t *testing.T, replicas ...*replica) {
	t.Helper()
	for _, r := range replicas {
		eventually(t, fmt.Sprintf("a call at :%d", r.endpoint.Port), func() bool {
			if err := c.call(t.Context()); err != nil {
				t.Fatal(err)
			}
			return r.calls.Load() > 0
		})
	}
	for _, r := range replicas {
		r.calls.Store(0)
		r.ids.Clear()
	}
	c.next.Store(0)
}

// stream is a bare ADS client, for what gRPC's own client hides.
type stream struct {
	discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node *corev3.Node
}

func openStream(t *testing.T, address, node string) *stream {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	opened, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &stream{opened, &corev3.Node{Id: node}}
}

func (s *stream) ask(t *testing.T, kind string, names ...string) {
	t.Helper()
	if err := s.Send(&discoveryv3.DiscoveryRequest{Node: s.node, TypeUrl: kind, ResourceNames: names}); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next response and acknowledges it for names.
func (s *stream) receive(t *testing.T, names ...string) *discoveryv3.DiscoveryResponse {
	t.Helper()
	response, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&discoveryv3.DiscoveryRequest{
		TypeUrl: response.GetTypeUrl(), VersionInfo: response.GetVersionInfo(), ResponseNonce: response.GetNonce(), ResourceNames: names,
	}); err != nil {
		t.Fatal(err)
	}
	return response
}

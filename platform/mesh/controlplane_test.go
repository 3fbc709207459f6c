package mesh

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	grpcstatus "google.golang.org/grpc/status"
)

func at(ports ...uint32) []Endpoint {
	out := make([]Endpoint, len(ports))
	for i, port := range ports {
		out[i] = Endpoint{Address: "127.0.0.1", Port: port}
	}
	return out
}

// assigned returns the names of the services whose endpoints a response carries, and checks that each group has the
// zone and the weight without which clients ignore it.
func assigned(t *testing.T, response *discoveryv3.DiscoveryResponse) []string {
	t.Helper()
	var names []string
	for _, packed := range response.GetResources() {
		var assignment endpointv3.ClusterLoadAssignment
		if err := packed.UnmarshalTo(&assignment); err != nil {
			t.Fatal(err)
		}
		names = append(names, assignment.GetClusterName())
		for _, group := range assignment.GetEndpoints() {
			if group.GetLocality().GetZone() == "" || group.GetLoadBalancingWeight().GetValue() == 0 {
				t.Errorf("%s: a group without zone or weight: %v", assignment.GetClusterName(), group)
			}
		}
	}
	slices.Sort(names)
	return names
}

// countingListener counts accepted connections.
type countingListener struct {
	net.Listener
	accepts atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	l.accepts.Add(1)
	return l.Listener.Accept()
}

func TestNothingIsServedBeforeTheFirstSet(t *testing.T) {
	plane, r := newPlane(t), newReplica(t, nil)
	lis := &countingListener{Listener: listen(t)}
	c := dial(t, serve(t, plane, lis), "gateway", "catalog")
	answered := make(chan error, 1)
	go func() { answered <- c.call(t.Context()) }()
	eventually(t, "the client to connect", func() bool { return c.conn.GetState() == connectivity.Connecting })
	if lis.accepts.Load() != 0 {
		t.Error("a connection was awaited before the mesh was known")
	}
	set(t, plane, Service{Name: "catalog", Endpoints: endpoints(r)})
	if err := <-answered; err != nil {
		t.Errorf("the call that came too early failed: %v", err)
	}
}

func TestServeEndsBeforeTheFirstSet(t *testing.T) {
	plane, lis := newPlane(t), listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plane.Serve(ctx, lis) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener was left open: %v", err)
	}
}

// TestOnlyWhatChangedIsSent: scaling one service must not touch another, nor the callers that do not use it.
func TestOnlyWhatChangedIsSent(t *testing.T) {
	plane := newPlane(t)
	set(t, plane, Service{Name: "catalog", Endpoints: at(1)}, Service{Name: "order", Endpoints: at(2)})
	address := serve(t, plane, listen(t))
	both, orderOnly := openStream(t, address, "gateway/1"), openStream(t, address, "gateway/2")
	both.ask(t, resource.EndpointType, "catalog", "order")
	if got := assigned(t, both.receive(t, "catalog", "order")); !slices.Equal(got, []string{"catalog", "order"}) {
		t.Fatalf("first response has %v, want both services", got)
	}
	orderOnly.ask(t, resource.EndpointType, "order")
	first := orderOnly.receive(t, "order")

	set(t, plane, Service{Name: "order", Endpoints: at(2)}, Service{Name: "catalog", Endpoints: at(4, 1)})
	if got := assigned(t, both.receive(t, "catalog", "order")); !slices.Equal(got, []string{"catalog"}) {
		t.Errorf("after catalog was scaled the response has %v, want catalog alone", got)
	}
	// The same state in another order is no change.
	set(t, plane, Service{Name: "catalog", Endpoints: at(1, 4)}, Service{Name: "order", Endpoints: at(2), Policy: RoundRobin})
	set(t, plane, Service{Name: "catalog", Endpoints: at(1, 4)}, Service{Name: "order", Endpoints: at(2, 3)})
	if got := assigned(t, both.receive(t, "catalog", "order")); !slices.Equal(got, []string{"order"}) {
		t.Errorf("after order was scaled the response has %v, want order alone", got)
	}
	// What the second client gets next is its own service's change: its nonce shows that nothing came in between.
	second := orderOnly.receive(t, "order")
	if got := assigned(t, second); !slices.Equal(got, []string{"order"}) || first.GetNonce() != "1" || second.GetNonce() != "2" {
		t.Errorf("got %v as response %s, want order as response 2", got, second.GetNonce())
	}
	// A change of the policy is one of the cluster only.
	both.ask(t, resource.ClusterType, "catalog", "order")
	both.receive(t, "catalog", "order")
	set(t, plane, Service{Name: "catalog", Endpoints: at(1, 4), Policy: LeastRequest}, Service{Name: "order", Endpoints: at(2, 3)})
	if got := both.receive(t, "catalog", "order").GetTypeUrl(); got != resource.ClusterType {
		t.Errorf("after a change of policy got a response of type %s, want a cluster", got)
	}
}

// TestRefusalsAreSlowedAndStayWithTheirCaller: a client that refuses everything must not keep the control plane busy,
// nor hold up another caller.
func TestRefusalsAreSlowedAndStayWithTheirCaller(t *testing.T) {
	plane := newPlane(t)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(plane)
	set(t, plane, Service{Name: "catalog", Endpoints: at(1)})
	address := serve(t, plane, listen(t))
	refusing, healthy := openStream(t, address, "gateway/1"), openStream(t, address, "order/1")

	// With no version accepted yet the library answers each refusal at once with the same resource.
	refusing.ask(t, resource.ListenerType, "catalog")
	begin := time.Now()
	for range 3 {
		response, err := refusing.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if err := refusing.Send(&discoveryv3.DiscoveryRequest{
			TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce(), ResourceNames: []string{"catalog"},
			ErrorDetail: &status.Status{Code: int32(codes.InvalidArgument), Message: "not to my taste"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 2*nackPause {
		t.Errorf("two refusals were answered within %v, want a pause of %v after each", took, nackPause)
	}
	healthy.ask(t, resource.EndpointType, "catalog")
	healthy.receive(t, "catalog")
	eventually(t, "three refusals to be counted", func() bool {
		return metric(t, registry, "spillway_mesh_nacks_total", "caller:gateway", "type:Listener") == 3
	})
	if got := metric(t, registry, "spillway_mesh_streams"); got != 2 {
		t.Errorf("%v streams counted, want 2", got)
	}
}

// metric returns the value of one metric, or 0 when it is not there.
func metric(t *testing.T, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var has []string
			for _, pair := range m.GetLabel() {
				has = append(has, pair.GetName()+":"+pair.GetValue())
			}
			if family.GetName() == name && slices.Equal(has, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func TestEveryCallerHasItsOwnView(t *testing.T) {
	plane := newPlane(t)
	set(t, plane, Service{Name: "catalog", Endpoints: at(1)})
	address := serve(t, plane, listen(t))
	first, second := openStream(t, address, "gateway/1"), openStream(t, address, "order/1")
	// One caller asks for a service that nobody has. It gets an answer; the other caller's view stays as it was.
	first.ask(t, resource.ListenerType, "catalog", "nobody")
	if got := len(first.receive(t, "catalog", "nobody").GetResources()); got != 2 {
		t.Errorf("%d listeners, want catalog's and the one that fails fast", got)
	}
	second.ask(t, resource.ListenerType, "catalog")
	second.receive(t, "catalog")

	plane.mu.Lock()
	defer plane.mu.Unlock()
	if len(plane.views) != 2 {
		t.Fatalf("%d views, want 2", len(plane.views))
	}
	if got := plane.views["gateway"].caches[resource.ListenerType].NumResources(); got != 2 {
		t.Errorf("the caller that asked sees %d listeners, want 2", got)
	}
	if got := plane.views["order"].caches[resource.ListenerType].NumResources(); got != 1 {
		t.Errorf("the other caller sees %d listeners, want 1", got)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	plane := newPlane(t)
	set(t, plane, Service{Name: "catalog"})
	address := serve(t, plane, listen(t))
	for name, try := range map[string]struct {
		node, kind string
		want       codes.Code
	}{
		"no caller":    {"/1", resource.ListenerType, codes.InvalidArgument},
		"no node":      {"", resource.ListenerType, codes.InvalidArgument},
		"unknown type": {"gateway/1", resource.SecretType, codes.Unimplemented},
		"no type":      {"gateway/1", "", codes.InvalidArgument},
	} {
		s := openStream(t, address, try.node)
		s.ask(t, try.kind, "catalog")
		if _, err := s.Recv(); grpcstatus.Code(err) != try.want {
			t.Errorf("%s: got %v, want %v", name, err, try.want)
		}
	}
}

func TestStateIsChecked(t *testing.T) {
	plane := newPlane(t)
	for want, services := range map[string][]Service{
		"a state without services":           {},
		"a service without a name":           {{}},
		`service "a" is listed twice`:        {{Name: "a"}, {Name: "a"}},
		`policy "random" is not allowed`:     {{Name: "a", Policy: "random"}},
		`address "localhost" is not allowed`: {{Name: "a", Endpoints: []Endpoint{{Address: "localhost", Port: 1}}}},
		"port 0 is not allowed":              {{Name: "a", Endpoints: at(0)}},
		"port 65536 is not allowed":          {{Name: "a", Endpoints: at(65536)}},
		"127.0.0.1:7 is listed twice":        {{Name: "a", Endpoints: at(7, 7)}},
		`hash header "" is not allowed`:      {{Name: "a", Policy: RingHash}},
		`hash header "x-y-bin" is not`:       {{Name: "a", Policy: RingHash, HashHeader: "x-y-bin"}},
		`hash header "X" is not allowed`:     {{Name: "a", Policy: RingHash, HashHeader: "X"}},
		`hash header "x" does nothing`:       {{Name: "a", HashHeader: "x"}},
	} {
		if err := plane.Set(State{Services: services}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	select {
	case <-plane.loaded:
		t.Error("a refused state counts as known")
	default:
	}
}

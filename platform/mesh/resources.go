package mesh

import (
	"fmt"
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// pushOrder lists the resource types that are served in the order in which a change is sent: what a resource refers to
// goes first, so that a client never holds a reference to nothing.
var pushOrder = [...]resource.Type{resource.ClusterType, resource.EndpointType, resource.RouteType, resource.ListenerType}

// resourcesOf returns what describes a service to a caller, by type. All four carry the service's name.
func resourcesOf(service Service, caller string) map[resource.Type]types.Resource {
	return map[resource.Type]types.Resource{
		resource.ListenerType: listener(service.Name, &hcmv3.HttpConnectionManager{
			RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: service.Name}},
			HttpFilters:    faultFilters(service.Faults, caller),
		}),
		resource.RouteType:    route(service),
		resource.ClusterType:  cluster(service),
		resource.EndpointType: assignment(service),
	}
}

// unknownListener answers for a service that the mesh does not have: a listener without a virtual host, which makes
// calls fail at once. With no answer a client would wait 15 s before its first call fails.
func unknownListener(name string) types.Resource {
	return listener(name, &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "unknown service " + name}},
	})
}

func listener(name string, manager *hcmv3.HttpConnectionManager) *listenerv3.Listener {
	// The router must be the last filter: clients refuse a chain that does not end with it.
	manager.HttpFilters = append(manager.HttpFilters, &hcmv3.HttpFilter{
		Name:       "router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
	})
	return &listenerv3.Listener{Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: pack(manager)}}
}

func route(service Service) *routev3.RouteConfiguration {
	action := &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: service.Name}}
	if service.Policy == RingHash {
		action.HashPolicy = []*routev3.RouteAction_HashPolicy{{
			PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: service.HashHeader}},
		}}
	}
	return &routev3.RouteConfiguration{Name: service.Name, VirtualHosts: []*routev3.VirtualHost{{
		Name:    service.Name,
		Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{}},
			Action: &routev3.Route_Route{Route: action},
		}},
	}}}
}

func cluster(service Service) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 service.Name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads()},
		LbPolicy:             clusterv3.Cluster_ROUND_ROBIN,
		// Said aloud, because silence means a limit: clients fail calls beyond 1024 in flight per service at once.
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			Priority:    corev3.RoutingPriority_DEFAULT,
			MaxRequests: wrapperspb.UInt32(math.MaxUint32),
		}}},
	}
	switch service.Policy {
	case LeastRequest:
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	case RingHash:
		// With a ring of 1024 points, the default of gRPC, Envoy and Istio: what is measured here is what people have.
		c.LbPolicy = clusterv3.Cluster_RING_HASH
	}
	return c
}

// assignment groups the endpoints by zone. Zone and weight are always set: clients refuse a group without a locality
// and silently ignore one without a weight. The weight is the number of endpoints that take calls, so that every
// endpoint gets the same share whatever its zone; a zone that only drains keeps weight 1, or its calls in flight would
// lose their connections' home before the endpoints are removed. Under RingHash draining endpoints count too: there a
// client divides a zone's weight by all its endpoints before it leaves out those that drain, and a changed share would
// move values between endpoints that stay.
func assignment(service Service) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: service.Name}
	var group *endpointv3.LocalityLbEndpoints
	for _, endpoint := range service.Endpoints {
		zone := endpoint.Zone
		if zone == "" {
			zone = "none"
		}
		if group == nil || group.Locality.Zone != zone {
			group = &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Zone: zone}, LoadBalancingWeight: wrapperspb.UInt32(0)}
			out.Endpoints = append(out.Endpoints, group)
		}
		health := corev3.HealthStatus_HEALTHY
		if endpoint.Draining {
			health = corev3.HealthStatus_DRAINING
		}
		if !endpoint.Draining || service.Policy == RingHash {
			group.LoadBalancingWeight.Value++
		}
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
			HealthStatus: health,
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address:       endpoint.Address,
					PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: endpoint.Port},
				}}},
			}},
		})
	}
	for _, group := range out.Endpoints {
		group.LoadBalancingWeight.Value = max(1, group.LoadBalancingWeight.Value)
	}
	return out
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

// pack wraps a message that this package built itself; it cannot fail for those.
func pack(message proto.Message) *anypb.Any {
	packed, err := anypb.New(message)
	if err != nil {
		panic(fmt.Sprintf("mesh: pack %T: %v", message, err))
	}
	return packed
}

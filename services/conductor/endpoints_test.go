package main

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"spillway.dev/platform/mesh"
)

func service(name string, ports ...string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "spillway", Annotations: map[string]string{}}}
	for _, port := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: port})
	}
	return s
}

// slice is an EndpointSlice of a Service whose pods listen on 9000.
func slice(of string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "spillway", Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: new("admin"), Port: new(int32(9090))},
			{Name: new("grpc"), Port: new(int32(9000))},
		},
		Endpoints: endpoints,
	}
}

// pod is an endpoint; its state names the conditions that are true, "unsaid" says none.
func pod(address, state string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{address}}
	if state != "unsaid" {
		e.Conditions = discoveryv1.EndpointConditions{
			Ready: new(strings.Contains(state, "ready")), Serving: new(strings.Contains(state, "serving")),
			Terminating: new(strings.Contains(state, "terminating")),
		}
	}
	return e
}

func in(zone string, e discoveryv1.Endpoint) discoveryv1.Endpoint {
	e.Zone = &zone
	return e
}

func with(s *discoveryv1.EndpointSlice, change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	change(s)
	return s
}

func TestWhoAnswers(t *testing.T) {
	ipv6 := func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }
	for name, c := range map[string]struct {
		slices []*discoveryv1.EndpointSlice
		dual   bool
		want   string
	}{
		"nobody":          {nil, false, ""},
		"who is ready":    {[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.2", "ready serving"), pod("10.0.0.1", "ready serving"))}, false, "10.0.0.1 10.0.0.2"},
		"unsaid is ready": {[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", "unsaid"))}, false, "10.0.0.1"},
		"not who starts":  {[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", ""), pod("10.0.0.2", "ready serving"))}, false, "10.0.0.2"},
		"who terminates leaves, though it serves": {
			[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", "serving terminating"), pod("10.0.0.2", "ready serving"))}, false, "10.0.0.2"},
		"who terminates and serves, when nobody is ready": {
			[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", "serving terminating"), pod("10.0.0.2", ""), pod("10.0.0.3", "terminating"))}, false, "10.0.0.1"},
		"not who only terminates": {[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", "terminating"))}, false, ""},
		"all slices":              {[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", "ready")), slice("echo", pod("10.0.0.2", "ready"))}, false, "10.0.0.1 10.0.0.2"},
		"one that moves between slices, once": {
			[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", "ready")), slice("echo", pod("10.0.0.1", ""))}, false, "10.0.0.1"},
		"not those of others":      {[]*discoveryv1.EndpointSlice{slice("other", pod("10.0.0.1", "ready"))}, false, ""},
		"zones, in their order":    {[]*discoveryv1.EndpointSlice{slice("echo", in("b", pod("10.0.0.1", "ready")), in("a", pod("10.0.0.2", "ready")))}, false, "10.0.0.2@a 10.0.0.1@b"},
		"no port of that name":     {[]*discoveryv1.EndpointSlice{with(slice("echo", pod("10.0.0.1", "ready")), func(s *discoveryv1.EndpointSlice) { s.Ports = s.Ports[:1] })}, false, ""},
		"a port of another number": {[]*discoveryv1.EndpointSlice{with(slice("echo", pod("10.0.0.1", "ready")), func(s *discoveryv1.EndpointSlice) { s.Ports[1].Port = new(int32(7)) })}, false, "10.0.0.1:7"},
		"IPv6":                     {[]*discoveryv1.EndpointSlice{with(slice("echo", pod("fd00::1", "ready")), ipv6)}, false, "fd00::1"},
		"one family of two":        {[]*discoveryv1.EndpointSlice{slice("echo", pod("10.0.0.1", "ready")), with(slice("echo", pod("fd00::1", "ready")), ipv6)}, true, "10.0.0.1"},
		"names are no addresses":   {[]*discoveryv1.EndpointSlice{with(slice("echo", pod("example.org", "ready")), func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN })}, false, ""},
		"no address":               {[]*discoveryv1.EndpointSlice{slice("echo", discoveryv1.Endpoint{})}, false, ""},
	} {
		echo := service("echo", "grpc")
		if c.dual {
			echo.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}
		var got []string
		for _, e := range endpointsOf(echo, c.slices) {
			text := e.Address
			if e.Zone != "" {
				text += "@" + e.Zone
			}
			if e.Port != 9000 {
				text += fmt.Sprintf(":%d", e.Port)
			}
			if e.Draining {
				text += " draining"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestTheWholeMesh(t *testing.T) {
	session, broken := service("session", "grpc"), service("broken", "grpc")
	session.Annotations[mesh.PolicyAnnotation], session.Annotations[mesh.HashHeaderAnnotation] = "ring_hash", "x-key"
	broken.Annotations[mesh.PolicyAnnotation] = "random"
	services := []*corev1.Service{session, service("redis", "tcp"), broken, service("catalog", "http", "grpc")}
	lists := listsOf(services, []*discoveryv1.EndpointSlice{slice("session", pod("10.0.0.1", "ready")), slice("redis", pod("10.0.0.2", "ready"))})
	controls := mesh.Controls{
		Faults: map[string][]mesh.Fault{"catalog": {{Delay: 5, DelayShare: 1}}, "nobody": {{Delay: 5, DelayShare: 1}}},
		Knobs:  map[string]map[string]string{"bank": {"a": "1"}},
	}
	state, wrong := stateOf(services, lists, controls)
	if err := state.Validate(); err != nil {
		t.Error(err)
	}
	var got []string
	for _, s := range state.Services {
		got = append(got, fmt.Sprintf("%s %d endpoints %d faults %s%s", s.Name, len(s.Endpoints), len(s.Faults), s.Policy, s.HashHeader))
	}
	want := "broken 0 endpoints 0 faults ; catalog 0 endpoints 1 faults ; session 1 endpoints 0 faults ring_hashx-key"
	if strings.Join(got, "; ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if state.Knobs["bank"]["a"] != "1" {
		t.Errorf("knobs are %v", state.Knobs)
	}
	if len(wrong) != 1 || !strings.Contains(wrong[0].Error(), `service "broken": policy "random"`) {
		t.Errorf("what is wrong is %v", wrong)
	}
}

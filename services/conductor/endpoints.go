package main

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"spillway.dev/platform/mesh"
)

// inMesh tells whether a Service is one that callers dial over the mesh.
func inMesh(service *corev1.Service) bool {
	return slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == mesh.PortName })
}

// endpointsOf decides who answers calls to a Service, from all EndpointSlices of its namespace.
//
// Those are the ready endpoints. One that is terminating leaves, and callers finish the calls that it has; only when
// nothing is ready do those that are terminating and still serve answer new calls too, as kube-proxy does it: a call that
// may be cut is better than one that surely fails.
func endpointsOf(service *corev1.Service, all []*discoveryv1.EndpointSlice) []mesh.Endpoint {
	type key struct {
		address string
		port    uint32
	}
	// A map, for an endpoint that moves between slices is in both for a moment.
	ready, leaving := map[key]mesh.Endpoint{}, map[key]mesh.Endpoint{}
	for _, slice := range all {
		if slice.Labels[discoveryv1.LabelServiceName] != service.Name || !speaks(service, slice.AddressType) {
			continue
		}
		port, ok := meshPort(slice)
		if !ok {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if len(endpoint.Addresses) == 0 {
				continue
			}
			// Of several addresses only the first means anything: discoveryv1.Endpoint.Addresses.
			at := mesh.Endpoint{Address: endpoint.Addresses[0], Port: port, Zone: value(endpoint.Zone, "")}
			conditions := endpoint.Conditions
			switch terminating := value(conditions.Terminating, false); {
			case !terminating && value(conditions.Ready, true):
				ready[key{at.Address, at.Port}] = at
			case terminating && value(conditions.Serving, value(conditions.Ready, true)):
				leaving[key{at.Address, at.Port}] = at
			}
		}
	}
	if len(ready) == 0 {
		ready = leaving
	}
	endpoints := slices.Collect(maps.Values(ready))
	slices.SortFunc(endpoints, mesh.Endpoint.Compare)
	return endpoints
}

// speaks tells whether a Service is reached by addresses of a type: by its first family where it has two, for the same
// pod is in the slices of both.
func speaks(service *corev1.Service, kind discoveryv1.AddressType) bool {
	if len(service.Spec.IPFamilies) == 0 {
		return kind == discoveryv1.AddressTypeIPv4 || kind == discoveryv1.AddressTypeIPv6
	}
	return string(service.Spec.IPFamilies[0]) == string(kind)
}

// meshPort is the number of the mesh's port on the pods of a slice, which may differ from the Service's.
func meshPort(slice *discoveryv1.EndpointSlice) (uint32, bool) {
	for _, port := range slice.Ports {
		if value(port.Name, "") == mesh.PortName && port.Port != nil && *port.Port > 0 {
			return uint32(*port.Port), true
		}
	}
	return 0, false
}

// value is what a field says, or what it means when it says nothing.
func value[T any](field *T, unset T) T {
	if field == nil {
		return unset
	}
	return *field
}

// listsOf are the endpoints of every Service of the mesh, also of those that have none.
func listsOf(services []*corev1.Service, all []*discoveryv1.EndpointSlice) mesh.Lists {
	lists := mesh.Lists{}
	for _, service := range services {
		if inMesh(service) {
			lists[service.Name] = endpointsOf(service, all)
		}
	}
	return lists
}

// stateOf is the whole mesh as callers should see it. It also returns what is wrong with Services: one whose annotations
// are not allowed is balanced as if it had none, so that it does not keep the others from changing.
func stateOf(services []*corev1.Service, lists mesh.Lists, controls mesh.Controls) (mesh.State, []error) {
	state := mesh.State{Knobs: controls.Knobs}
	var wrong []error
	for _, from := range services {
		if !inMesh(from) {
			continue
		}
		service := mesh.Service{
			Name: from.Name, Endpoints: lists[from.Name], Faults: controls.Faults[from.Name],
			Policy: mesh.Policy(from.Annotations[mesh.PolicyAnnotation]), HashHeader: from.Annotations[mesh.HashHeaderAnnotation],
		}
		if err := (mesh.State{Services: []mesh.Service{service}}).Validate(); err != nil {
			wrong = append(wrong, err)
			service.Policy, service.HashHeader = "", ""
		}
		state.Services = append(state.Services, service)
	}
	slices.SortFunc(state.Services, func(a, b mesh.Service) int { return cmp.Compare(a.Name, b.Name) })
	return state, wrong
}

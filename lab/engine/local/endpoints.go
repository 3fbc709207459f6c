package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"spillway.dev/platform/mesh"
)

// endpoint is a pod behind a port of a Service.
type endpoint struct {
	address  string // host:port
	draining bool
}

// endpoints lists who is behind a port of a Service: every ready pod, and as
// draining those that were ready when they were deleted. Engine.mu is held.
func (e *Engine) endpoints(s *corev1.Service, port corev1.ServicePort) []endpoint {
	target := port.TargetPort
	if target == (intstr.IntOrString{}) {
		target = intstr.FromInt32(port.Port)
	}
	selector := labels.SelectorFromSet(s.Spec.Selector)
	var all []endpoint
	for _, d := range e.sorted() {
		for _, p := range d.pods {
			s := p.status
			serving := s.ready && !s.terminating
			draining := s.terminating && s.drains && s.process != nil
			if selector.Empty() || !selector.Matches(labels.Set(p.template.Labels)) || !(serving || draining) {
				continue
			}
			if address, err := p.address(target); err == nil {
				all = append(all, endpoint{address, draining})
			}
		}
	}
	return all
}

// ready keeps the addresses that take new work.
func ready(all []endpoint) []string {
	var addresses []string
	for _, ep := range all {
		if !ep.draining {
			addresses = append(addresses, ep.address)
		}
	}
	return addresses
}

// meshLists lists the endpoints of every Service that can be called over the mesh,
// also where there are none. Engine.mu is held.
func (e *Engine) meshLists() (mesh.Lists, error) {
	all := mesh.Lists{}
	for _, s := range e.manifests.Services {
		i := slices.IndexFunc(s.Spec.Ports, isMeshPort)
		if i < 0 {
			continue
		}
		all[s.Name] = []mesh.Endpoint{}
		for _, ep := range e.endpoints(s, s.Spec.Ports[i]) {
			address, text, err := net.SplitHostPort(ep.address)
			if err != nil {
				return nil, fmt.Errorf("endpoint of %s: %w", s.Name, err)
			}
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("endpoint of %s: %w", s.Name, err)
			}
			all[s.Name] = append(all[s.Name], mesh.Endpoint{Address: address, Port: uint32(port), Draining: ep.draining})
		}
	}
	return all, nil
}

// state is the whole mesh as callers should see it. Every Service is in it, with
// or without endpoints: one that is missing fails every call to it for good.
// Engine.mu is held.
func (e *Engine) state(endpoints mesh.Lists) (mesh.State, error) {
	state := mesh.State{Services: []mesh.Service{}, Knobs: e.knobs}
	for _, s := range e.manifests.Services {
		if !slices.ContainsFunc(s.Spec.Ports, isMeshPort) {
			continue
		}
		service := mesh.Service{
			Name: s.Name, Endpoints: endpoints[s.Name], Faults: e.faults[s.Name],
			Policy: mesh.Policy(s.Annotations[mesh.PolicyAnnotation]), HashHeader: s.Annotations[mesh.HashHeaderAnnotation],
		}
		if service.Endpoints == nil { // its Service is younger than what callers see
			service.Endpoints = []mesh.Endpoint{}
		}
		state.Services = append(state.Services, service)
	}
	return state, state.Validate()
}

// announce tells the control plane, the front doors and those who watch what has
// changed. Those who wait for replicas hear of every call, also when the control
// plane cannot be told. It returns when there will be more to tell though nothing
// happens until then, or zero. Engine.mu is held.
func (e *Engine) announce() time.Time {
	complaint := ""
	again, err := e.tell()
	if err != nil {
		complaint = "the control plane is not told of changes: " + err.Error()
	}
	if complaint != "" && complaint != e.complaint {
		e.events.post(Event{Kind: EventManifestError, Text: complaint})
	}
	e.complaint = complaint
	// A front door's Service need not be one of the mesh.
	for _, door := range e.doors {
		door.proxy.Set(ready(e.endpoints(door.service, door.port)))
	}
	e.renewClusterIPs()
	e.revision++
	close(e.changed)
	e.changed = make(chan struct{})
	return again
}

// tell hands the control plane the state of the mesh when that is a new one, as far
// as it gets through. It returns when more will.
// Engine.mu is held.
func (e *Engine) tell() (again time.Time, err error) {
	now, err := e.meshLists()
	if err != nil {
		return again, err
	}
	shown, again := e.updates.Pass(time.Now(), now)
	state, err := e.state(shown)
	if err != nil {
		return again, err
	}
	text, err := json.Marshal(state)
	if err != nil {
		return again, fmt.Errorf("encode the endpoints: %w", err)
	}
	text = append(text, '\n')
	if bytes.Equal(text, e.announced) {
		return again, nil
	}
	e.announced = text
	if e.conductor != nil {
		e.conductor.tell(text)
	}
	return again, nil
}

// SetEndpointUpdates has the control plane learn of endpoints that come and go only
// after a delay, or not at all. Front doors, ClusterIPs and WatchEndpoints are not
// concerned, nor are faults and knobs. With 0 and false the latest endpoints are told
// at once.
func (e *Engine) SetEndpointUpdates(delay time.Duration, drop bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.updates.Set(time.Now(), mesh.EndpointNews{Delay: delay, Drop: drop})
	e.wakeUp()
}

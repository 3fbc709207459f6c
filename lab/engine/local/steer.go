package local

import (
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/mesh"
)

// SetReplicas sets the number of replicas of a Deployment and returns the one that
// held before. It holds until the manifest's changes. The error carries a gRPC
// status, as those of the other methods that steer the mesh do.
func (e *Engine) SetReplicas(name string, n int) (previous int, err error) {
	if n < 0 || n > maxReplicas {
		return 0, status.Errorf(codes.InvalidArgument, "%d replicas of %s: give 0 to %d", n, name, maxReplicas)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	d, err := e.find(name)
	if err != nil {
		return 0, err
	}
	previous = d.wanted()
	d.scaled = &n
	e.wakeUp()
	return previous, nil
}

// SetMeshFaults makes these the faults that callers inject, by callee. It replaces
// all that were set before. What the control plane would refuse is reported as an
// event, and the mesh stays as it is until the next call.
func (e *Engine) SetMeshFaults(faults map[string][]mesh.Fault) {
	own := make(map[string][]mesh.Fault, len(faults))
	for callee, all := range faults {
		own[callee] = slices.Clone(all)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = own
	e.wakeUp()
}

// SetKnobs makes these the values of knobs, by service and name. It replaces all
// that were set before; a knob that is not among them gets its default.
func (e *Engine) SetKnobs(knobs map[string]map[string]string) {
	own := make(map[string]map[string]string, len(knobs))
	for service, values := range knobs {
		own[service] = maps.Clone(values)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.knobs = own
	e.wakeUp()
}

// KnobTarget is where KnobService is served, as host:port.
func (e *Engine) KnobTarget() string { return e.xdsAddr }

// SetPrometheusURL has GetInfo tell where the Prometheus HTTP API is served.
func (e *Engine) SetPrometheusURL(url string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prometheus = url
}

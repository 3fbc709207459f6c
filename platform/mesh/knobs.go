package mesh

import (
	"context"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// knobValues is what is set, by service. Its fields are guarded by the control plane's mutex; the maps are never
// changed once they are here.
type knobValues struct {
	byService map[string]map[string]string
	changed   chan struct{} // closed and replaced when any value changes, or any number of replicas
}

// set takes the values in force. resized says that a service has more or fewer replicas than before, which goes the same
// way.
func (v *knobValues) set(next map[string]map[string]string, resized bool) {
	same := maps.EqualFunc(v.byService, next, maps.Equal)
	if same && !resized {
		return
	}
	if !same {
		v.byService = make(map[string]map[string]string, len(next))
		for service, values := range next {
			v.byService[service] = maps.Clone(values)
		}
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

// declaration is the knobs that the replicas of a service declared, by name. It stays when they go, so that a knob can
// be set for those that come.
type declaration map[string]*knobv1.Knob

// knobServer is the KnobService of one Serve. Like the endpoints, knobs are not served before the first Set: a replica
// that hears nothing keeps what it has, and one that was told of no values would fall back to its defaults.
type knobServer struct {
	knobv1.UnimplementedKnobServiceServer
	plane *ControlPlane
}

// WatchKnobs implements the service.
func (s *knobServer) WatchKnobs(request *knobv1.WatchKnobsRequest, stream grpc.ServerStreamingServer[knobv1.WatchKnobsResponse]) error {
	service := request.GetService()
	if service == "" {
		return status.Error(codes.InvalidArgument, "no service is named, give its name in the mesh")
	}
	c := s.plane
	c.declare(service, request.GetKnobs())
	c.metrics.watchers.WithLabelValues(service).Inc()
	defer c.metrics.watchers.WithLabelValues(service).Dec()
	var sent *knobv1.WatchKnobsResponse // nil before the first
	for {
		c.mu.Lock()
		values, changed := c.knobs.byService[service], c.knobs.changed
		replicas := uint32(len(c.services[service].Endpoints))
		c.mu.Unlock()
		if sent == nil || sent.GetReplicas() != replicas || !maps.Equal(sent.GetValues(), values) {
			sent = &knobv1.WatchKnobsResponse{Values: values, Replicas: replicas}
			if err := stream.Send(sent); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// declare keeps what a replica declares. Of two replicas that differ, as in a rolling update, the later one counts.
func (c *ControlPlane) declare(service string, knobs []*knobv1.Knob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.declared[service] == nil {
		c.declared[service] = make(declaration, len(knobs))
	}
	for _, knob := range knobs {
		c.declared[service][knob.GetName()] = knob
	}
}

// ListKnobs implements the service.
func (s *knobServer) ListKnobs(_ context.Context, request *knobv1.ListKnobsRequest) (*knobv1.ListKnobsResponse, error) {
	c := s.plane
	c.mu.Lock()
	defer c.mu.Unlock()
	response := &knobv1.ListKnobsResponse{}
	for _, service := range slices.Sorted(maps.Keys(c.declared)) {
		if only := request.GetService(); only != "" && only != service {
			continue
		}
		listed := &knobv1.ServiceKnobs{Service: service}
		for name, knob := range c.declared[service] {
			listed.Knobs = append(listed.Knobs, &knobv1.KnobState{
				Knob:  proto.CloneOf(knob),
				Value: c.knobs.byService[service][name],
			})
		}
		slices.SortFunc(listed.Knobs, func(a, b *knobv1.KnobState) int {
			return strings.Compare(a.GetKnob().GetName(), b.GetKnob().GetName())
		})
		response.Services = append(response.Services, listed)
	}
	return response, nil
}

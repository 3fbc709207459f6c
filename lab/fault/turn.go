package fault

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// SetKnob sets a knob of a service, or with an empty value puts it back, and returns what was set before: nothing when
// the default held. Faults that turn the same knob come on top.
func (i *Injector) SetKnob(ctx context.Context, service, name, value string) (previous string, err error) {
	list, err := i.ask(ctx)
	if err != nil {
		return "", err
	}
	knob, err := find(list, service, name)
	if err != nil {
		return "", err
	}
	if value != "" {
		if err := knobs.Check(knob, value); err != nil {
			return "", status.Error(codes.InvalidArgument, err.Error())
		}
	}
	i.steer.Lock()
	defer i.steer.Unlock()
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return "", status.Error(codes.Unavailable, "the mesh ends, knobs are put back")
	}
	previous = i.set.get(service, name)
	if value == "" {
		delete(i.set[service], name)
	} else {
		i.set.set(service, name, value)
	}
	i.mu.Unlock()
	i.log.Info("a knob is set", "service", service, "knob", name, "value", value, "before", previous)
	return previous, i.push(ctx)
}

// ResetKnobs puts every knob back that was set by hand.
func (i *Injector) ResetKnobs(ctx context.Context) error {
	i.steer.Lock()
	defer i.steer.Unlock()
	i.mu.Lock()
	i.set = make(values)
	i.mu.Unlock()
	return i.push(ctx)
}

// turned is the knob that a fault turns; without a knob for those that turn none.
type turned struct {
	service string
	knob    *knobv1.Knob
}

// learn checks that the services which a fault names are there, and returns the knob that it turns, whose default it
// keeps.
func (i *Injector) learn(ctx context.Context, f Fault) (turned, error) {
	services := f.services()
	if len(services) == 0 {
		return turned{}, nil
	}
	list, err := i.ask(ctx)
	if err != nil {
		return turned{}, err
	}
	for _, service := range services {
		if _, err := among(list, service); err != nil {
			return turned{}, err
		}
	}
	name := f.turns()
	if name == "" {
		return turned{}, nil
	}
	knob, err := find(list, services[0], name)
	if err != nil {
		return turned{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.defaults.set(services[0], name, knob.GetDefault())
	return turned{services[0], knob}, nil
}

// ask lists what the replicas have declared.
func (i *Injector) ask(ctx context.Context) ([]*knobv1.ServiceKnobs, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	response, err := i.ledger.ListKnobs(ctx, &knobv1.ListKnobsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, status.Errorf(status.Code(err), "the control plane does not tell which knobs there are, try again when it is up: %v", err)
	}
	return response.GetServices(), nil
}

// among finds a service.
func among(list []*knobv1.ServiceKnobs, service string) (*knobv1.ServiceKnobs, error) {
	var names []string
	for _, s := range list {
		if s.GetService() == service {
			return s, nil
		}
		names = append(names, s.GetService())
	}
	return nil, status.Errorf(codes.NotFound, "no service %q runs in the mesh, these do: %s", service, join(names))
}

// find finds a knob of a service.
func find(list []*knobv1.ServiceKnobs, service, name string) (*knobv1.Knob, error) {
	of, err := among(list, service)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, k := range of.GetKnobs() {
		if k.GetKnob().GetName() == name {
			return k.GetKnob(), nil
		}
		names = append(names, k.GetKnob().GetName())
	}
	slices.Sort(names)
	return nil, status.Errorf(codes.NotFound, "service %s has no knob %q, it has: %s", service, name, join(names))
}

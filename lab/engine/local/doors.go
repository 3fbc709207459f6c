package local

import (
	"fmt"
	"net"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"spillway.dev/lab/engine/local/frontdoor"
)

// door is the front door to one port of a Service.
type door struct {
	name   string // of the port
	number int32  // of the port, when the door was opened
	proxy  *frontdoor.Proxy

	// What it stands for by the manifests that hold. Engine.mu guards both.
	service *corev1.Service
	port    corev1.ServicePort
}

// openDoors gives the Services that are meant for people an address.
func (e *Engine) openDoors() error {
	for _, s := range e.manifests.Services {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		for _, p := range s.Spec.Ports {
			// The address that the manifest names, when nobody has it.
			lis, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", host, p.Port))
			if err != nil {
				taken := err
				if lis, err = e.listen(); err != nil {
					return err
				}
				e.events.post(Event{Kind: EventIgnored, Text: fmt.Sprintf("%v: port %q of %s is at %s instead", taken, p.Name, s.Name, lis.Addr())})
			}
			e.doors = append(e.doors, &door{name: p.Name, number: p.Port, proxy: frontdoor.New(lis), service: s, port: p})
		}
	}
	return nil
}

// renewDoors has the doors lead where the manifests now say. Doors open and close
// with the mesh only, since people hold their addresses: it reports, once, what
// waits for the next start. Engine.mu is held.
func (e *Engine) renewDoors() {
	var late []string
	for _, d := range e.doors {
		i := slices.IndexFunc(e.manifests.Services, func(s *corev1.Service) bool { return s.Name == d.service.Name })
		port := -1
		if i >= 0 {
			port = slices.IndexFunc(e.manifests.Services[i].Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == d.name })
		}
		if port < 0 {
			late = append(late, fmt.Sprintf("Service %s has no port %q any more; its front door %s stays open", d.service.Name, d.name, d.proxy.Addr()))
			continue
		}
		d.service = e.manifests.Services[i]
		d.port = d.service.Spec.Ports[port]
		if t := d.service.Spec.Type; t != corev1.ServiceTypeLoadBalancer {
			late = append(late, fmt.Sprintf("Service %s: spec.type is %q; the front door %s to port %q stays open", d.service.Name, t, d.proxy.Addr(), d.name))
		} else if d.port.Port != d.number {
			late = append(late, fmt.Sprintf("Service %s: port %q is %d; its front door stays at %s", d.service.Name, d.name, d.port.Port, d.proxy.Addr()))
		}
	}
	for _, s := range e.manifests.Services {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(e.doors, func(d *door) bool { return d.service.Name == s.Name && d.name == p.Name }) {
				late = append(late, fmt.Sprintf("Service %s: spec.type is %q; port %q has no front door", s.Name, s.Spec.Type, p.Name))
			}
		}
	}
	for _, text := range late {
		if !slices.Contains(e.late, text) {
			e.events.post(Event{Kind: EventIgnored, Text: "without effect until the next `spillway up`: " + text})
		}
	}
	e.late = late
}

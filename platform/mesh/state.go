package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// State is the whole mesh as clients should see it: plain data that travels as JSON.
type State struct {
	Services []Service `json:"services"`
}

// Service is one callable service. With no endpoints, calls to it fail at once with Unavailable.
type Service struct {
	// Name is what callers dial: xds:///Name.
	Name      string     `json:"name"`
	Endpoints []Endpoint `json:"endpoints"`
	// Policy is how callers choose an endpoint; empty is round robin.
	Policy Policy `json:"policy,omitempty"`
}

// Endpoint is one replica's address.
type Endpoint struct {
	// Address is an IP address, version 4 or 6.
	Address string `json:"address"`
	// Port is 1 to 65535.
	Port uint32 `json:"port"`
	// Zone is the replica's zone; empty is a zone too. Zones take load in proportion to their endpoints.
	Zone string `json:"zone,omitempty"`
	// Draining endpoints get no new calls; calls in flight finish.
	Draining bool `json:"draining,omitempty"`
}

// Policy is how a caller spreads calls over a service's endpoints.
type Policy string

// The policies that the control plane serves.
const (
	// RoundRobin takes the endpoints of a zone in turn.
	RoundRobin Policy = "round_robin"
	// LeastRequest takes, of two random endpoints, the one with fewer calls in flight from this caller.
	LeastRequest Policy = "least_request"
)

// Validate tells what is wrong with the state, naming the service and what is allowed.
//
// A state without any service is refused: it would fail every call in the mesh, and is what a supervisor would send
// that does not know its services yet.
func (s State) Validate() error {
	if len(s.Services) == 0 {
		return fmt.Errorf("mesh: a state without services, list every service even when it has no endpoints")
	}
	names := make(map[string]bool, len(s.Services))
	for _, service := range s.Services {
		if service.Name == "" {
			return fmt.Errorf("mesh: a service without a name, give it the name that callers dial")
		}
		if names[service.Name] {
			return fmt.Errorf("mesh: service %q is listed twice, merge its endpoints", service.Name)
		}
		names[service.Name] = true
		if err := service.validate(); err != nil {
			return fmt.Errorf("mesh: service %q: %w", service.Name, err)
		}
	}
	return nil
}

func (s Service) validate() error {
	switch s.Policy {
	case "", RoundRobin, LeastRequest:
	default:
		return fmt.Errorf("policy %q is not allowed, give %q or %q", s.Policy, RoundRobin, LeastRequest)
	}
	type key struct {
		address string
		port    uint32
	}
	seen := make(map[key]bool, len(s.Endpoints))
	for _, endpoint := range s.Endpoints {
		at := key{endpoint.Address, endpoint.Port}
		_, err := netip.ParseAddr(endpoint.Address)
		switch {
		case err != nil:
			return fmt.Errorf("endpoint address %q is not allowed, give an IP address", endpoint.Address)
		case endpoint.Port < 1 || endpoint.Port > 65535:
			return fmt.Errorf("endpoint %s: port %d is not allowed, give 1 to 65535", endpoint.Address, endpoint.Port)
		case seen[at]:
			return fmt.Errorf("endpoint %s:%d is listed twice", endpoint.Address, endpoint.Port)
		}
		seen[at] = true
	}
	return nil
}

// normal returns the service in the one form in which equal meaning is equal data.
func (s Service) normal() Service {
	if s.Policy == "" {
		s.Policy = RoundRobin
	}
	s.Endpoints = slices.Clone(s.Endpoints)
	slices.SortFunc(s.Endpoints, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
	return s
}

func (s Service) equal(other Service) bool {
	return s.Name == other.Name && s.Policy == other.Policy && slices.Equal(s.Endpoints, other.Endpoints)
}

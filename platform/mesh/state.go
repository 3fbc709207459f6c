package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// State is the whole mesh as clients and replicas should see it: plain data that travels as JSON.
type State struct {
	Services []Service `json:"services"`
	// Knobs are the values that are set: by service, then by the knob's name. A knob that is not in it has its default.
	Knobs map[string]map[string]string `json:"knobs,omitempty"`
}

// Service is one callable service. With no endpoints, calls to it fail at once with Unavailable.
type Service struct {
	// Name is what callers dial: xds:///Name.
	Name      string     `json:"name"`
	Endpoints []Endpoint `json:"endpoints"`
	// Policy is how callers choose an endpoint; empty is round robin.
	Policy Policy `json:"policy,omitempty"`
	// HashHeader is the metadata key whose value decides on the endpoint under RingHash; calls that do not carry it go
	// to a random one. It is required with RingHash and not allowed without.
	HashHeader string `json:"hashHeader,omitempty"`
	// Faults are injected into calls to this service, in the caller's client, one after another in this order.
	Faults []Fault `json:"faults,omitempty"`
}

// Fault delays or aborts a share of the calls to a service before they leave the caller. A call that is delayed and
// aborted waits first. Two faults on the same calls draw independently and both apply: delays add up.
type Fault struct {
	// Caller is the service whose calls are meant; empty means every caller.
	Caller string `json:"caller,omitempty"`
	// Delay is added to DelayShare (0 to 1) of the calls.
	Delay      time.Duration `json:"delay,omitempty"`
	DelayShare float64       `json:"delayShare,omitempty"`
	// AbortCode is what AbortShare (0 to 1) of the calls fail with; codes.OK where the fault aborts nothing. Only
	// Unavailable is allowed besides, since it is the only code that stands for a callee that could not be reached.
	AbortCode  codes.Code `json:"abortCode,omitempty"`
	AbortShare float64    `json:"abortShare,omitempty"`
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

// Compare orders endpoints by zone, address and port: negative when e comes first.
func (e Endpoint) Compare(other Endpoint) int {
	return cmp.Or(cmp.Compare(e.Zone, other.Zone), cmp.Compare(e.Address, other.Address), cmp.Compare(e.Port, other.Port))
}

// Policy is how a caller spreads calls over a service's endpoints.
type Policy string

// The policies that the control plane serves.
const (
	// RoundRobin takes the endpoints of a zone in turn.
	RoundRobin Policy = "round_robin"
	// LeastRequest takes, of two random endpoints, the one with fewer calls in flight from this caller.
	LeastRequest Policy = "least_request"
	// RingHash sends calls with the same value of HashHeader to the same endpoint while the endpoints are the same. When
	// one of n goes, its values move, and about as many others do: the ring keeps its number of points, so those that
	// stay get more of them.
	RingHash Policy = "ring_hash"
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
	if err := checkKnobs(s.Knobs); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	return nil
}

func checkKnobs(knobs map[string]map[string]string) error {
	for service, values := range knobs {
		for name := range values {
			if service == "" || name == "" {
				return fmt.Errorf("knob %q of service %q: a name is missing", name, service)
			}
		}
	}
	return nil
}

func (s Service) validate() error {
	switch s.Policy {
	case "", RoundRobin, LeastRequest:
		if s.HashHeader != "" {
			return fmt.Errorf("hash header %q does nothing with policy %q, leave it out or give %q", s.HashHeader, s.Policy, RingHash)
		}
	case RingHash:
		if !isHeader(s.HashHeader) {
			return fmt.Errorf("hash header %q is not allowed, give %q a metadata key in lower case", s.HashHeader, RingHash)
		}
	default:
		return fmt.Errorf("policy %q is not allowed, give %q, %q or %q", s.Policy, RoundRobin, LeastRequest, RingHash)
	}
	for _, fault := range s.Faults {
		if err := fault.validate(); err != nil {
			return err
		}
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

func (f Fault) validate() error {
	switch {
	case f.Delay < 0:
		return fmt.Errorf("fault: delay %v is not allowed, give 0s or more", f.Delay)
	case !(f.DelayShare >= 0 && f.DelayShare <= 1): // so that NaN is caught
		return fmt.Errorf("fault: delay share %v is not allowed, give 0 to 1", f.DelayShare)
	case !(f.AbortShare >= 0 && f.AbortShare <= 1):
		return fmt.Errorf("fault: abort share %v is not allowed, give 0 to 1", f.AbortShare)
	case f.AbortCode != codes.OK && f.AbortCode != codes.Unavailable:
		return fmt.Errorf("fault: abort code %v is not allowed, give %v", f.AbortCode, codes.Unavailable)
	case f.AbortShare > 0 && f.AbortCode == codes.OK:
		return fmt.Errorf("fault: abort share %v without a code, give %v", f.AbortShare, codes.Unavailable)
	}
	return nil
}

// isHeader tells whether a metadata key can be hashed: binary keys cannot.
func isHeader(key string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	return key != "" && strings.Trim(key, allowed) == "" && !strings.HasSuffix(key, "-bin")
}

// normal returns the service in the one form in which equal meaning is equal data.
func (s Service) normal() Service {
	if s.Policy == "" {
		s.Policy = RoundRobin
	}
	s.Endpoints, s.Faults = slices.Clone(s.Endpoints), slices.Clone(s.Faults)
	slices.SortFunc(s.Endpoints, Endpoint.Compare)
	return s
}

func (s Service) equal(other Service) bool {
	return s.Name == other.Name && s.Policy == other.Policy && s.HashHeader == other.HashHeader &&
		slices.Equal(s.Endpoints, other.Endpoints) && slices.Equal(s.Faults, other.Faults)
}

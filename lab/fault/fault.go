package fault

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Fault is one thing that goes wrong: exactly one field is set. It is written in scenario files as
//
//	latency: {caller: gateway, callee: catalog, delay: 200ms, share: 0.5}
type Fault struct {
	// Latency is added to calls, in the caller's client.
	Latency *Edge `yaml:"latency,omitempty"`
	// Errors make calls fail with UNAVAILABLE, in the caller's client; the callee never sees them.
	Errors *Edge `yaml:"errors,omitempty"`
	// SlowDown multiplies the service time of every replica. Several multiply, within 0.1 to 1000.
	SlowDown *SlowDown `yaml:"slow-down,omitempty"`
	// Kill ends replicas as a crash would. It has no duration.
	Kill *Replicas `yaml:"kill,omitempty"`
	// Pause stops replicas with SIGSTOP: they hold what they were sent, and answer nothing.
	Pause *Replicas `yaml:"pause,omitempty"`
	// Store is stopped, and started again with what it had on disk.
	Store *Store `yaml:"store,omitempty"`
	// Endpoints keeps callers from hearing of new and removed replicas. Of several the longest delay counts.
	Endpoints *Endpoints `yaml:"endpoints,omitempty"`
	// SlowStart makes new replicas take longer until they serve. Several add up.
	SlowStart *SlowStart `yaml:"slow-start,omitempty"`
	// BankQuota changes how many charges the bank takes. Of several the one that began last counts.
	BankQuota *BankQuota `yaml:"bank-quota,omitempty"`
}

// Edge is the calls from one service to another.
type Edge struct {
	// Caller is a service; every caller when empty.
	Caller string `yaml:"caller,omitempty"`
	Callee string `yaml:"callee"`
	// Share of the calls, 0 to 1; 0 stands for all.
	Share float64 `yaml:"share,omitempty"`
	// Delay is the latency that is added; for latency only.
	Delay time.Duration `yaml:"delay,omitempty"`
}

// SlowDown is a service whose service times are multiplied.
type SlowDown struct {
	Service string `yaml:"service"`
	// Factor is 0.1 to 1000; below 1 the service gets faster.
	Factor float64 `yaml:"factor"`
}

// Replicas is some replicas of a service, the oldest first.
type Replicas struct {
	Service string `yaml:"service"`
	// Replicas is how many, up to 100; 0 stands for one.
	Replicas int `yaml:"replicas,omitempty"`
}

// Store is what keeps the mesh's state.
type Store struct {
	// Name is "redis" or "nats".
	Name string `yaml:"name"`
}

// The stores.
const (
	Redis = "redis"
	NATS  = "nats"
)

// Endpoints is how late callers hear of endpoints.
type Endpoints struct {
	// Delay is how late; with 0 they hear nothing until the fault ends.
	Delay time.Duration `yaml:"delay,omitempty"`
}

// SlowStart is a service whose new replicas start slowly.
type SlowStart struct {
	Service string        `yaml:"service"`
	Delay   time.Duration `yaml:"delay"`
}

// BankQuota is what the bank takes.
type BankQuota struct {
	// PerSecond is charges a second, 1 or more.
	PerSecond int `yaml:"per-second"`
}

// Bounds of what a fault may ask for.
const (
	leastFactor, mostFactor = 0.1, 1000
	mostReplicas            = 100
)

// kinds is what is set of a fault, by the names that scenario files use.
func (f Fault) kinds() []string {
	var set []string
	for _, kind := range []struct {
		name string
		set  bool
	}{
		{"latency", f.Latency != nil}, {"errors", f.Errors != nil}, {"slow-down", f.SlowDown != nil},
		{"kill", f.Kill != nil}, {"pause", f.Pause != nil}, {"store", f.Store != nil},
		{"endpoints", f.Endpoints != nil}, {"slow-start", f.SlowStart != nil}, {"bank-quota", f.BankQuota != nil},
	} {
		if kind.set {
			set = append(set, kind.name)
		}
	}
	return set
}

// Validate tells what is wrong with the fault, and what is allowed. It does not know which services there are.
func (f Fault) Validate() error {
	switch set := f.kinds(); len(set) {
	case 0:
		return errors.New("a fault without a kind, give one of latency, errors, slow-down, kill, pause, store, endpoints, slow-start, bank-quota")
	case 1:
		if err := f.check(); err != nil {
			return fmt.Errorf("fault %s: %w", set[0], err)
		}
		return nil
	default:
		return fmt.Errorf("a fault of %d kinds (%s), give each a fault of its own", len(set), join(set))
	}
}

func (f Fault) check() error {
	switch {
	case f.Latency != nil:
		return f.Latency.check(true)
	case f.Errors != nil:
		return f.Errors.check(false)
	case f.SlowDown != nil:
		if !(f.SlowDown.Factor >= leastFactor && f.SlowDown.Factor <= mostFactor) {
			return fmt.Errorf("factor %v is not allowed, give %v to %v", f.SlowDown.Factor, leastFactor, mostFactor)
		}
		return named("service", f.SlowDown.Service)
	case f.Kill != nil:
		return f.Kill.check()
	case f.Pause != nil:
		return f.Pause.check()
	case f.Store != nil:
		if f.Store.Name != Redis && f.Store.Name != NATS {
			return fmt.Errorf("store %q is not known, give %s or %s", f.Store.Name, Redis, NATS)
		}
	case f.Endpoints != nil:
		if f.Endpoints.Delay < 0 {
			return fmt.Errorf("delay %v is not allowed, give 0s (nothing is heard) or more", f.Endpoints.Delay)
		}
	case f.SlowStart != nil:
		if f.SlowStart.Delay <= 0 {
			return fmt.Errorf("delay %v is not allowed, give more than 0s", f.SlowStart.Delay)
		}
		return named("service", f.SlowStart.Service)
	case f.BankQuota != nil:
		if f.BankQuota.PerSecond < 1 {
			return fmt.Errorf("per-second %d is not allowed, give 1 or more", f.BankQuota.PerSecond)
		}
	}
	return nil
}

func (e *Edge) check(latency bool) error {
	switch {
	case !(e.Share >= 0 && e.Share <= 1):
		return fmt.Errorf("share %v is not allowed, give 0 (all) to 1", e.Share)
	case latency && e.Delay <= 0:
		return fmt.Errorf("delay %v is not allowed, give more than 0s", e.Delay)
	case !latency && e.Delay != 0:
		return fmt.Errorf("delay %v does nothing here, leave it out or give a latency fault too", e.Delay)
	}
	return named("callee", e.Callee)
}

// all is the share of calls that is meant.
func (e *Edge) all() float64 { return cmp.Or(e.Share, 1) }

func (r *Replicas) check() error {
	if r.Replicas < 0 || r.Replicas > mostReplicas {
		return fmt.Errorf("replicas %d is not allowed, give 1 to %d", r.Replicas, mostReplicas)
	}
	return named("service", r.Service)
}

// count is how many replicas are meant.
func (r *Replicas) count() int { return cmp.Or(r.Replicas, 1) }

func named(what, name string) error {
	if name == "" {
		return fmt.Errorf("no %s is named, give a service", what)
	}
	return nil
}

// services is the services that the fault names.
func (f Fault) services() []string {
	switch {
	case f.Latency != nil:
		return f.Latency.services()
	case f.Errors != nil:
		return f.Errors.services()
	case f.SlowDown != nil:
		return []string{f.SlowDown.Service}
	case f.SlowStart != nil:
		return []string{f.SlowStart.Service}
	case f.BankQuota != nil:
		return []string{bank}
	}
	return nil // the engine knows its workloads itself
}

func (e *Edge) services() []string {
	if e.Caller == "" {
		return []string{e.Callee}
	}
	return []string{e.Caller, e.Callee}
}

package capacity

import (
	"fmt"
	"time"
)

// Kind is what a slot does with a request.
type Kind string

// The kinds of station.
const (
	// Model is a station in virtual time: a request takes a slot and no CPU.
	Model Kind = "model"
	// CPU is a station that burns: a request keeps a thread of this machine at work for its service time, in CPU time.
	// Slots are then what the replica can keep busy at once, one core each.
	CPU Kind = "cpu"
)

// Distribution is the shape of the service times.
type Distribution string

// The distributions that a station knows.
const (
	// Exponential service times have a standard deviation equal to their mean; with Poisson arrivals the station is an
	// M/M/K queue, which Erlang C describes exactly.
	Exponential Distribution = "exponential"
	// Constant service times are all equal to the mean (M/D/K): the same load queues about half as long.
	Constant Distribution = "constant"
)

// Config describes one replica's capacity.
type Config struct {
	// Kind is what a slot does with a request; Model when empty.
	Kind Kind
	// Slots is K, the number of requests served at the same time; at least 1.
	Slots int
	// ServiceTime is the mean time that a slot is taken by one request. 0 switches the model off.
	ServiceTime time.Duration
	// Distribution is the shape of the service times.
	Distribution Distribution
	// ColdFactor is by how much service times are longer in a replica that has just started (caches that are cold, code
	// that is not compiled yet); 1 or more. Without effect when ColdFor is 0.
	ColdFactor float64
	// ColdFor is the time after Started in which that factor falls, in a straight line, to 1.
	ColdFor time.Duration
	// Seed makes the sequence of service times reproducible. Replicas of one service should not share it.
	Seed uint64
}

// Validate tells what is wrong with the configuration, naming the field, its value and what is allowed.
func (c Config) Validate() error {
	switch {
	case c.Kind != "" && c.Kind != Model && c.Kind != CPU:
		return fmt.Errorf("capacity kind: %q is not allowed, give %q or %q", c.Kind, Model, CPU)
	case c.Slots < 1:
		return fmt.Errorf("capacity slots: %d is not allowed, give at least 1", c.Slots)
	case c.ServiceTime < 0:
		return fmt.Errorf("capacity service time: %v is not allowed, give 0 (model off) or more", c.ServiceTime)
	case c.Distribution != Exponential && c.Distribution != Constant:
		return fmt.Errorf("capacity distribution: %q is not allowed, give %q or %q", c.Distribution, Exponential, Constant)
	case c.ColdFor < 0:
		return fmt.Errorf("capacity cold time: %v is not allowed, give 0 (never cold) or more", c.ColdFor)
	case c.ColdFor > 0 && !(c.ColdFactor >= 1):
		return fmt.Errorf("capacity cold factor: %v is not allowed, give 1 or more", c.ColdFactor)
	}
	return nil
}

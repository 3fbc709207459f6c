package capacity

import (
	"fmt"
	"time"
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
	// Slots is K, the number of requests served at the same time; at least 1.
	Slots int
	// ServiceTime is the mean time that a slot is taken by one request. 0 switches the model off.
	ServiceTime time.Duration
	// Distribution is the shape of the service times.
	Distribution Distribution
	// Seed makes the sequence of service times reproducible. Replicas of one service should not share it.
	Seed uint64
}

// Validate tells what is wrong with the configuration, naming the field, its value and what is allowed.
func (c Config) Validate() error {
	switch {
	case c.Slots < 1:
		return fmt.Errorf("capacity slots: %d is not allowed, give at least 1", c.Slots)
	case c.ServiceTime < 0:
		return fmt.Errorf("capacity service time: %v is not allowed, give 0 (model off) or more", c.ServiceTime)
	case c.Distribution != Exponential && c.Distribution != Constant:
		return fmt.Errorf("capacity distribution: %q is not allowed, give %q or %q", c.Distribution, Exponential, Constant)
	}
	return nil
}

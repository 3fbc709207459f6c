package main

import (
	"errors"
	"fmt"
	"time"

	"spillway.dev/platform/boot"
)

// config is ticketing's own part of the environment.
type config struct {
	// NATSURL is where NATS with JetStream is.
	NATSURL string `env:"SPILLWAY_NATS_URL" envDefault:"nats://127.0.0.1:4222"`
	// NATSReplicas is how many servers of NATS keep each stream and bucket; the
	// same for every service that makes them, or each would undo the other's.
	NATSReplicas int `env:"SPILLWAY_NATS_REPLICAS" envDefault:"1"`
	// Workers is how many tickets one replica issues at once.
	Workers int `env:"SPILLWAY_TICKETING_WORKERS" envDefault:"16"`
	// AckWait is how long a replica may take for one ticket before its message
	// is given to another. Short: what a killed replica held is issued sooner.
	AckWait time.Duration `env:"SPILLWAY_TICKETING_ACK_WAIT" envDefault:"5s"`
}

// Validate names the variable, its value and what is allowed.
func (c *config) Validate() error {
	errs := []error{
		boot.CheckNATS("SPILLWAY_NATS_URL", c.NATSURL),
		boot.CheckNATSReplicas("SPILLWAY_NATS_REPLICAS", c.NATSReplicas),
	}
	if c.Workers < 1 || c.Workers > 1000 {
		errs = append(errs, fmt.Errorf("SPILLWAY_TICKETING_WORKERS=\"%d\" is not allowed: give 1 to 1000", c.Workers))
	}
	if c.AckWait < 100*time.Millisecond || c.AckWait > 10*time.Minute {
		errs = append(errs, fmt.Errorf("SPILLWAY_TICKETING_ACK_WAIT=%q is not allowed: give 100ms to 10m", c.AckWait))
	}
	return errors.Join(errs...)
}

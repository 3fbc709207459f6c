package main

import (
	"errors"
	"fmt"
	"time"

	"spillway.dev/platform/boot"
)

// config is order's own part of the environment.
type config struct {
	// NATSURL is where NATS with JetStream is.
	NATSURL string `env:"SPILLWAY_NATS_URL" envDefault:"nats://127.0.0.1:4222"`
	// NATSReplicas is how many servers of NATS keep each stream and bucket; the
	// same for every service that makes them, or each would undo the other's.
	NATSReplicas int `env:"SPILLWAY_NATS_REPLICAS" envDefault:"1"`
	// Targets of the downstreams, as gRPC writes them.
	InventoryTarget string `env:"SPILLWAY_INVENTORY_TARGET" envDefault:"xds:///inventory"`
	PaymentTarget   string `env:"SPILLWAY_PAYMENT_TARGET" envDefault:"xds:///payment"`
	// Lease is how long a replica that has said nothing keeps an order to
	// itself; after that another one takes it over. Short: a buyer whose
	// replica died is refunded sooner. Long: a replica that is only slow keeps
	// its orders. It also bounds one step of the saga to three fifths of it, so
	// that a live replica does not lose its lease in the middle of a step, and
	// what a drain has to wait for, so it stays below SPILLWAY_DRAIN_TIMEOUT.
	Lease time.Duration `env:"SPILLWAY_ORDER_LEASE" envDefault:"5s"`
}

// Validate names the variable, its value and what is allowed.
func (c *config) Validate() error {
	errs := []error{
		boot.CheckNATS("SPILLWAY_NATS_URL", c.NATSURL),
		boot.CheckNATSReplicas("SPILLWAY_NATS_REPLICAS", c.NATSReplicas),
		boot.CheckTarget("SPILLWAY_INVENTORY_TARGET", c.InventoryTarget),
		boot.CheckTarget("SPILLWAY_PAYMENT_TARGET", c.PaymentTarget),
	}
	if c.Lease < 100*time.Millisecond || c.Lease > 10*time.Second {
		errs = append(errs, fmt.Errorf("SPILLWAY_ORDER_LEASE=%q is not allowed: give 100ms to 10s", c.Lease))
	}
	return errors.Join(errs...)
}

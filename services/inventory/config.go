package main

import (
	"errors"
	"fmt"
	"time"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/programme"
)

// config is what the environment says.
type config struct {
	RedisAddr     string `env:"SPILLWAY_REDIS_ADDR" envDefault:"127.0.0.1:6379"`
	ProgrammeFile string `env:"SPILLWAY_PROGRAMME_FILE"`
	// HoldTTL must outlast a checkout with all its retries; longer than that it only keeps seats from others.
	HoldTTL time.Duration `env:"SPILLWAY_INVENTORY_HOLD_TTL" envDefault:"2m"`
	// ReapEvery needs no haste: a show that somebody asks about is reaped with every call.
	ReapEvery time.Duration `env:"SPILLWAY_INVENTORY_REAP_EVERY" envDefault:"5s"`

	shows programme.Programme // what ProgrammeFile holds, set by Validate
}

// maxHoldTTL is the limit that the contract sets for a request's own time.
const maxHoldTTL = time.Hour

// Validate checks what the types do not, and reads the programme.
func (c *config) Validate() error {
	var errs []error
	var err error
	if c.shows, err = programme.Load(c.ProgrammeFile); err != nil {
		errs = append(errs, fmt.Errorf("SPILLWAY_PROGRAMME_FILE=%q is not allowed: %w", c.ProgrammeFile, err))
	}
	errs = append(errs, boot.CheckAddr("SPILLWAY_REDIS_ADDR", c.RedisAddr))
	if c.HoldTTL < time.Millisecond || c.HoldTTL > maxHoldTTL {
		errs = append(errs, fmt.Errorf("SPILLWAY_INVENTORY_HOLD_TTL=%q is not allowed: give 1ms to %v", c.HoldTTL, maxHoldTTL))
	}
	if c.ReapEvery < time.Millisecond {
		errs = append(errs, fmt.Errorf("SPILLWAY_INVENTORY_REAP_EVERY=%q is not allowed: give 1ms or more", c.ReapEvery))
	}
	return errors.Join(errs...)
}

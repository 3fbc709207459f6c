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
	ProgrammeFile   string `env:"SPILLWAY_PROGRAMME_FILE"`
	InventoryTarget string `env:"SPILLWAY_INVENTORY_TARGET" envDefault:"xds:///inventory"`
	// CacheTTL is short beside the time a person takes to choose a seat, and long beside the time between two people who
	// look at the same show in a drop.
	CacheTTL time.Duration `env:"SPILLWAY_CATALOG_CACHE_TTL" envDefault:"200ms"`

	shows programme.Programme // what ProgrammeFile holds, set by Validate
}

// Validate checks what the types do not, and reads the programme.
func (c *config) Validate() error {
	var errs []error
	var err error
	if c.shows, err = programme.Load(c.ProgrammeFile); err != nil {
		errs = append(errs, fmt.Errorf("SPILLWAY_PROGRAMME_FILE=%q is not allowed: %w", c.ProgrammeFile, err))
	}
	errs = append(errs, boot.CheckTarget("SPILLWAY_INVENTORY_TARGET", c.InventoryTarget))
	if c.CacheTTL < 0 || c.CacheTTL > time.Minute {
		errs = append(errs, fmt.Errorf("SPILLWAY_CATALOG_CACHE_TTL=%q is not allowed: give 0s to 1m", c.CacheTTL))
	}
	return errors.Join(errs...)
}

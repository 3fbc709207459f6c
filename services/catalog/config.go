package main

import (
	"fmt"
	"time"
)

// config is what the environment says.
type config struct {
	ProgrammeFile   string `env:"SPILLWAY_PROGRAMME_FILE"`
	InventoryTarget string `env:"SPILLWAY_INVENTORY_TARGET" envDefault:"xds:///inventory"`
	// CacheTTL is short beside the time a person takes to choose a seat, and long beside the time between two people who
	// look at the same show in a drop.
	CacheTTL time.Duration `env:"SPILLWAY_CATALOG_CACHE_TTL" envDefault:"200ms"`
}

// Validate checks what the types do not.
func (c *config) Validate() error {
	if c.CacheTTL < 0 || c.CacheTTL > time.Minute {
		return fmt.Errorf("SPILLWAY_CATALOG_CACHE_TTL=%q is not allowed: give 0s to 1m", c.CacheTTL)
	}
	return nil
}

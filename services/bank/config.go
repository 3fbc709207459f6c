package main

import (
	"errors"
	"fmt"
)

// config is the bank's own part of the environment.
type config struct {
	// JournalDir is where the journal lies; made when missing. One bank alone
	// may use it. It has no default: books in a place nobody chose are lost.
	JournalDir string `env:"SPILLWAY_BANK_JOURNAL_DIR"`
	// QuotaPerSecond is how many charges a second are taken, refused cards and
	// replays included; as many at once after a quiet second. Refunds are free
	// of it: compensation that competed with charges for the same quota would
	// make an overload worse.
	QuotaPerSecond int `env:"SPILLWAY_BANK_QUOTA_PER_SECOND" envDefault:"50"`
	// Concurrency is how many charges and refunds may be between books and disk
	// at once; a call above it is refused, not queued. (The time that a call
	// waits in the modelled capacity of the replica comes before that.)
	Concurrency int `env:"SPILLWAY_BANK_CONCURRENCY" envDefault:"32"`
}

// Validate names the variable, its value and what is allowed.
func (c *config) Validate() error {
	var errs []error
	if c.JournalDir == "" {
		errs = append(errs, errors.New(`SPILLWAY_BANK_JOURNAL_DIR is not set: give the directory of the journal`))
	}
	if c.QuotaPerSecond < 1 || c.QuotaPerSecond > maxQuota {
		errs = append(errs, fmt.Errorf("SPILLWAY_BANK_QUOTA_PER_SECOND=%d is not allowed: give 1 to 1000000", c.QuotaPerSecond))
	}
	if c.Concurrency < 1 {
		errs = append(errs, fmt.Errorf("SPILLWAY_BANK_CONCURRENCY=%d is not allowed: give 1 or more", c.Concurrency))
	}
	return errors.Join(errs...)
}

// maxQuota is in charges a second; it also bounds the knob.
const maxQuota = 1_000_000

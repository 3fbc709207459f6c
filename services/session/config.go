package main

import (
	"errors"
	"fmt"
	"time"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/session"
)

// config is what the environment says.
type config struct {
	// Store is where sessions are kept: redis, or memory, which is lost with the replica and for a study only.
	Store     string `env:"SPILLWAY_SESSION_STORE" envDefault:"redis"`
	RedisAddr string `env:"SPILLWAY_REDIS_ADDR" envDefault:"127.0.0.1:6379"`
	// A drop with all its waiting fits into both; a forgotten browser is not signed in the next morning.
	IdleTTL     time.Duration `env:"SPILLWAY_SESSION_IDLE_TTL" envDefault:"30m"`
	AbsoluteTTL time.Duration `env:"SPILLWAY_SESSION_ABSOLUTE_TTL" envDefault:"12h"`
}

func (c *config) lifetime() session.Lifetime {
	return session.Lifetime{Idle: c.IdleTTL, Absolute: c.AbsoluteTTL}
}

// The stores.
const (
	inRedis  = "redis"
	inMemory = "memory"
)

// Validate checks what the types do not.
func (c *config) Validate() error {
	errs := []error{boot.CheckAddr("SPILLWAY_REDIS_ADDR", c.RedisAddr)}
	if c.Store != inRedis && c.Store != inMemory {
		errs = append(errs, fmt.Errorf("SPILLWAY_SESSION_STORE=%q is not allowed: give %s or %s", c.Store, inRedis, inMemory))
	}
	if c.IdleTTL < time.Millisecond {
		errs = append(errs, fmt.Errorf("SPILLWAY_SESSION_IDLE_TTL=%q is not allowed: give 1ms or more", c.IdleTTL))
	}
	if c.AbsoluteTTL < c.IdleTTL {
		errs = append(errs, fmt.Errorf("SPILLWAY_SESSION_ABSOLUTE_TTL=%q is not allowed: give at least SPILLWAY_SESSION_IDLE_TTL, %v", c.AbsoluteTTL, c.IdleTTL))
	}
	return errors.Join(errs...)
}

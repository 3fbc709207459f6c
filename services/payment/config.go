package main

import (
	"errors"

	"spillway.dev/platform/boot"
)

// config is payment's own part of the environment.
type config struct {
	// RedisAddr is host:port of the Redis that keeps the payments.
	RedisAddr string `env:"SPILLWAY_REDIS_ADDR" envDefault:"127.0.0.1:6379"`
	// BankTarget is where the bank is, as gRPC writes it.
	BankTarget string `env:"SPILLWAY_BANK_TARGET" envDefault:"xds:///bank"`
}

// Validate names the variable, its value and what is allowed.
func (c *config) Validate() error {
	return errors.Join(
		boot.CheckAddr("SPILLWAY_REDIS_ADDR", c.RedisAddr),
		boot.CheckTarget("SPILLWAY_BANK_TARGET", c.BankTarget))
}

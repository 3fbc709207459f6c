package main

import (
	"errors"

	"spillway.dev/platform/boot"
)

// config is what the environment says. The addresses of gRPC and admin belong to boot.
type config struct {
	// HTTPAddr is where HTTP with JSON is served, host:port.
	HTTPAddr string `env:"SPILLWAY_HTTP_ADDR" envDefault:":8080"`
	// CookieSecure marks the session cookie Secure, so that browsers send it over TLS only. Off by default because the
	// gateway itself serves plain HTTP; on wherever something in front of it ends TLS.
	CookieSecure bool `env:"SPILLWAY_GATEWAY_COOKIE_SECURE" envDefault:"false"`
	// SessionAffinity hands out tokens that begin with a key, and sends that key along with the calls for a session, for
	// session replicas that keep sessions in memory.
	SessionAffinity bool `env:"SPILLWAY_GATEWAY_SESSION_AFFINITY" envDefault:"false"`

	SessionTarget   string `env:"SPILLWAY_SESSION_TARGET" envDefault:"xds:///session"`
	CatalogTarget   string `env:"SPILLWAY_CATALOG_TARGET" envDefault:"xds:///catalog"`
	OrderTarget     string `env:"SPILLWAY_ORDER_TARGET" envDefault:"xds:///order"`
	TicketingTarget string `env:"SPILLWAY_TICKETING_TARGET" envDefault:"xds:///ticketing"`
}

// Validate refuses addresses that cannot be listened on or dialled, before anything is opened.
func (c *config) Validate() error {
	return errors.Join(
		boot.CheckListen("SPILLWAY_HTTP_ADDR", c.HTTPAddr),
		boot.CheckTarget("SPILLWAY_SESSION_TARGET", c.SessionTarget),
		boot.CheckTarget("SPILLWAY_CATALOG_TARGET", c.CatalogTarget),
		boot.CheckTarget("SPILLWAY_ORDER_TARGET", c.OrderTarget),
		boot.CheckTarget("SPILLWAY_TICKETING_TARGET", c.TicketingTarget))
}

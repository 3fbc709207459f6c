package main

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/telemetry"
)

// dial gives the only downstream of ticketing, with what traces it.
func dial(app *boot.App, cfg *config) (*nats.Conn, *telemetry.Messaging, error) {
	nc, err := app.NATS(cfg.NATSURL)
	if err != nil {
		return nil, nil, err
	}
	messaging, err := telemetry.NewMessaging(app.Tracer(), app.Registerer())
	if err != nil {
		return nil, nil, fmt.Errorf("messaging metrics: %w", err)
	}
	return nc, messaging, nil
}

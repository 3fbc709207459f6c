package main

import (
	"fmt"

	"github.com/nats-io/nats.go"
	_ "google.golang.org/grpc/xds" // the xds:/// resolver

	"spillway.dev/platform/boot"
	"spillway.dev/platform/telemetry"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

// downstreams is everything that order calls.
type downstreams struct {
	inventory inventoryv1.InventoryServiceClient
	payment   paymentv1.PaymentServiceClient
	nats      *nats.Conn
	messaging *telemetry.Messaging // traces what goes through nats
}

// dial connects to the downstreams, without waiting for them.
func dial(app *boot.App, cfg *config) (downstreams, error) {
	nc, err := app.NATS(cfg.NATSURL)
	if err != nil {
		return downstreams{}, err
	}
	messaging, err := telemetry.NewMessaging(app.Tracer(), app.Registerer())
	if err != nil {
		return downstreams{}, fmt.Errorf("messaging metrics: %w", err)
	}
	inventory, err := app.Dial("inventory", cfg.InventoryTarget)
	if err != nil {
		return downstreams{}, err
	}
	payment, err := app.Dial("payment", cfg.PaymentTarget)
	if err != nil {
		return downstreams{}, err
	}
	return downstreams{inventoryv1.NewInventoryServiceClient(inventory), paymentv1.NewPaymentServiceClient(payment), nc, messaging}, nil
}

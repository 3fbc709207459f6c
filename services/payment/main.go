package main

import (
	"context"

	"spillway.dev/platform/boot"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "payment",
		Config: cfg,
		Build: func(_ context.Context, app *boot.App) error {
			bank, err := dialBank(app, cfg.BankTarget)
			if err != nil {
				return err
			}
			client := app.Redis(cfg.RedisAddr)
			app.PaceTogether("bank", client) // its quota is for all of us
			payments := newStore(client)
			app.Dependency("redis", payments.load)
			paymentv1.RegisterPaymentServiceServer(app.Server(), newServer(bank, payments, app.Log()))
			return nil
		},
	}
}

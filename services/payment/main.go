package main

import (
	"context"

	"spillway.dev/platform/boot"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
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
			app.PaceOnly("bank", bankv1.BankService_Charge_FullMethodName) // giving money back is not part of its quota
			app.PaceTogether("bank", client)                               // which is for all replicas
			payments := newStore(client)
			app.Dependency("redis", payments.load)
			paymentv1.RegisterPaymentServiceServer(app.Server(), newServer(bank, payments, app.Log()))
			return nil
		},
	}
}

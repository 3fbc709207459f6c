// Package main is the bank: it stands for a third party that the mesh does not
// control, with fixed concurrency, a hard quota and one replica. Its books are
// in memory and in a journal on disk; what it has answered survives kill -9.
//
// Alone, with grpcurl as its caller:
//
//	SPILLWAY_BANK_JOURNAL_DIR=/var/tmp/bank SPILLWAY_GRPC_ADDR=:9000 SPILLWAY_ADMIN_ADDR=:9090 bank
//	grpcurl -plaintext -d '{"reference":"demo-0001","amountCents":4200,"cardToken":"tok_visa"}' \
//	  localhost:9000 spillway.bank.v1.BankService/Charge
//
// Cards whose token begins with tok_declined are refused.
package main

import (
	"context"
	"time"

	"spillway.dev/platform/boot"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "bank",
		Config: cfg,
		Build: func(_ context.Context, app *boot.App) error {
			books, err := openLedger(cfg.JournalDir, app.Log(), time.Now)
			if err != nil {
				return err
			}
			app.OnClose("journal", func(context.Context) error { return books.close() })
			limit := newQuota(cfg.QuotaPerSecond, time.Now())
			app.Limit(limit.perSecond)
			return register(app.Server(), books, limit, cfg, app.Knobs(), app.Registerer(), time.Now)
		},
	}
}

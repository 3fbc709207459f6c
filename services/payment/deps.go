package main

import (
	_ "google.golang.org/grpc/xds" // the xds:/// resolver

	"spillway.dev/platform/boot"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
)

// dialBank gives the only downstream of payment beside Redis.
func dialBank(app *boot.App, target string) (bankv1.BankServiceClient, error) {
	conn, err := app.Dial("bank", target)
	if err != nil {
		return nil, err
	}
	return bankv1.NewBankServiceClient(conn), nil
}

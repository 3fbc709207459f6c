// Package main is the inventory service: it holds seats for a time, sells them and takes them back. It keeps nothing
// itself; every change is one atomic step in Redis.
//
// Alone, with a Redis on its usual port; package boot lists the variables of every service:
//
//	SPILLWAY_GRPC_ADDR=:9003 SPILLWAY_ADMIN_ADDR=:9093 inventory
//
//	SPILLWAY_REDIS_ADDR             127.0.0.1:6379  where Redis is, host:port
//	SPILLWAY_PROGRAMME_FILE                         the shows, as JSON; empty: a small programme
//	SPILLWAY_INVENTORY_HOLD_TTL     2m              how long a hold lasts that names no time itself, 1ms to 1h
//	SPILLWAY_INVENTORY_REAP_EVERY   5s              how often shows that nobody asks about are looked after
package main

import (
	"context"

	"spillway.dev/platform/boot"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "inventory",
		Config: cfg,
		Build: func(_ context.Context, app *boot.App) error {
			store, err := newStore(app.Redis(cfg.RedisAddr), app.Registerer())
			if err != nil {
				return err
			}
			app.Dependency("redis", store.connect)
			app.Worker("reaper", reaper{store: store, shows: cfg.shows, every: cfg.ReapEvery}.run)
			inventoryv1.RegisterInventoryServiceServer(app.Server(), &server{store: store, shows: cfg.shows, holdTTL: cfg.HoldTTL})
			return nil
		},
	}
}

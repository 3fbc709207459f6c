// Package main is the catalog service: what is on, what it costs, which seats are free. It keeps a seat map of each show
// for a moment, so that a crowd that looks at one show asks inventory once.
//
// Alone, with an inventory on port 9003 (and for ListShows without one); package boot lists the variables of every service:
//
//	SPILLWAY_GRPC_ADDR=:9002 SPILLWAY_ADMIN_ADDR=:9092 SPILLWAY_INVENTORY_TARGET=localhost:9003 catalog
//
//	SPILLWAY_PROGRAMME_FILE                           the shows, as JSON; empty: a small programme
//	SPILLWAY_INVENTORY_TARGET     xds:///inventory    where inventory is
//	SPILLWAY_CATALOG_CACHE_TTL    200ms               how old a seat map may be; 0s asks every time
package main

import (
	"context"

	"spillway.dev/platform/boot"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "catalog",
		Config: cfg,
		Build: func(_ context.Context, app *boot.App) error {
			down, err := dial(app, cfg)
			if err != nil {
				return err
			}
			maps, err := newSeatMaps(cfg.CacheTTL, down.availability, app.Registerer())
			if err != nil {
				return err
			}
			catalogv1.RegisterCatalogServiceServer(app.Server(), &server{shows: cfg.shows, maps: maps})
			return nil
		},
	}
}

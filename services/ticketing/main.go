package main

import (
	"context"

	"spillway.dev/platform/boot"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "ticketing",
		Config: cfg,
		Build: func(_ context.Context, app *boot.App) error {
			nc, messaging, err := dial(app, cfg)
			if err != nil {
				return err
			}
			st, err := newStore(nc, cfg.NATSReplicas)
			if err != nil {
				return err
			}
			o, err := newOffice(st, messaging, cfg, app.Log(), app.Registerer(), app.Work)
			if err != nil {
				return err
			}
			app.Dependency("nats", st.ensure)
			app.Worker("sales", o.run)
			app.Worker("backlog", o.watchBacklog)
			ticketingv1.RegisterTicketingServiceServer(app.Server(), &server{store: st})
			return nil
		},
	}
}

package main

import (
	"context"
	"time"

	"spillway.dev/platform/boot"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "order",
		Config: cfg,
		Build: func(_ context.Context, app *boot.App) error {
			down, err := dial(app, cfg)
			if err != nil {
				return err
			}
			st, err := newStore(down.nats, down.messaging, app.Instance(), cfg.NATSReplicas)
			if err != nil {
				return err
			}
			sg, err := newSaga(st, down, cfg.Lease, time.Now, app.Log(), app.Registerer())
			if err != nil {
				return err
			}
			app.Dependency("nats", st.ensure)
			app.Worker("recovery", sg.recoverOrders)
			app.Worker("undo", sg.undoOrders)
			app.Worker("payments", sg.payQueue(app.Work))
			app.Worker("backlog", sg.watchBacklog)
			orderv1.RegisterOrderServiceServer(app.Server(), &server{store: st, saga: sg, payment: paymentKnob(app.Knobs())})
			return nil
		},
	}
}

package main

import (
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/xds" // the xds:/// resolver

	"spillway.dev/platform/boot"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// downstreams is everything the gateway calls.
type downstreams struct {
	session   sessionv1.SessionServiceClient
	catalog   catalogv1.CatalogServiceClient
	order     orderv1.OrderServiceClient
	ticketing ticketingv1.TicketingServiceClient
}

// dial connects to every downstream. Connections are made in the background: a downstream that is away is found out by
// the calls that need it, and by no others.
func dial(app *boot.App, cfg *config) (downstreams, error) {
	var conns [4]*grpc.ClientConn
	for i, d := range [...]struct{ name, target string }{
		{"session", cfg.SessionTarget},
		{"catalog", cfg.CatalogTarget},
		{"order", cfg.OrderTarget},
		{"ticketing", cfg.TicketingTarget},
	} {
		conn, err := app.Dial(d.name, d.target)
		if err != nil {
			return downstreams{}, err
		}
		conns[i] = conn
	}
	return downstreams{
		session:   sessionv1.NewSessionServiceClient(conns[0]),
		catalog:   catalogv1.NewCatalogServiceClient(conns[1]),
		order:     orderv1.NewOrderServiceClient(conns[2]),
		ticketing: ticketingv1.NewTicketingServiceClient(conns[3]),
	}, nil
}

// Package main is the gateway: the edge of the mesh. It serves GatewayService over gRPC and over HTTP with JSON, turns a
// session cookie into a bearer token and a token into a person, and passes each call on to the service that answers it.
// It keeps nothing.
package main

import (
	"context"
	"fmt"

	"spillway.dev/platform/boot"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "gateway",
		Config: cfg,
		Edge:   true,
		Build: func(_ context.Context, app *boot.App) error {
			down, err := dial(app, cfg)
			if err != nil {
				return err
			}
			gatewayv1.RegisterGatewayServiceServer(edge{app.Server()}, &server{downstreams: down, affinity: affinity{on: cfg.SessionAffinity}})
			conn, err := app.Loopback()
			if err != nil {
				return fmt.Errorf("in-process connection for HTTP: %w", err)
			}
			h, err := newHTTPHandler(conn, cfg.CookieSecure, app.Registerer())
			if err != nil {
				return err
			}
			app.ServeHTTP("http", cfg.HTTPAddr, h)
			return nil
		},
	}
}

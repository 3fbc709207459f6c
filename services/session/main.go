// Package main is the session service: who is signed in. It keeps nothing itself; sessions are in Redis, so any replica
// answers for any session. For a study of sticky sessions they can be in the replica's memory instead.
//
// Alone, with a Redis on its usual port; package boot lists the variables of every service:
//
//	SPILLWAY_GRPC_ADDR=:9001 SPILLWAY_ADMIN_ADDR=:9091 session
//
//	SPILLWAY_SESSION_STORE          redis           or memory: lost with the replica, unknown to the others
//	SPILLWAY_REDIS_ADDR             127.0.0.1:6379  where Redis is, host:port
//	SPILLWAY_SESSION_IDLE_TTL       30m             a session that is not touched for so long ends
//	SPILLWAY_SESSION_ABSOLUTE_TTL   12h             and so long after sign-in it ends in any case
package main

import (
	"context"

	"spillway.dev/platform/boot"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{
		Name:   "session",
		Config: cfg,
		Build: func(_ context.Context, app *boot.App) error {
			store, err := open(app, cfg)
			if err != nil {
				return err
			}
			sessionv1.RegisterSessionServiceServer(app.Server(), &server{store: store})
			return nil
		},
	}
}

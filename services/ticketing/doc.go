// Package main is ticketing: it issues one ticket for every order that is
// announced on JetStream, exactly once, and shows it.
//
// Exactly once, whatever is delivered how often to whom: the ticket is created
// in the bucket "tickets" under its order's id, which succeeds for one creator
// only, and before the message is acknowledged. Everyone else finds that ticket
// and acknowledges.
//
// Alone, beside a NATS server with JetStream:
//
//	SPILLWAY_NATS_URL=nats://localhost:4222 SPILLWAY_GRPC_ADDR=:9000 SPILLWAY_ADMIN_ADDR=:9090 ticketing
package main

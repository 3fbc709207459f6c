// Package main is order: the checkout. It holds the seats, charges the card,
// confirms the seats and announces the sale. When a step fails it answers as
// soon as that is written down, and undoes behind the answer what was done, also
// when the replica that did it is gone.
//
// Alone, beside an inventory, a payment and a NATS server with JetStream:
//
//	SPILLWAY_INVENTORY_TARGET=localhost:9101 SPILLWAY_PAYMENT_TARGET=localhost:9102 \
//	  SPILLWAY_NATS_URL=nats://localhost:4222 SPILLWAY_GRPC_ADDR=:9000 SPILLWAY_ADMIN_ADDR=:9090 order
package main

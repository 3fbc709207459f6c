// Package keyspace names what Spillway keeps in its stores: JetStream streams,
// consumers and key-value buckets, and Redis keys. It is the one place where a
// service that writes a store and an audit that reads it agree on its layout.
// It opens no connection and holds no state.
//
// JetStream:
//
//	stream CHECKOUTS  orders.opened  OrderOpened, one for every opened checkout, until it is final
//	stream PAYMENTS   orders.held    OrderHeld, one for every order that is paid later, until it is
//	stream SALES      orders.paid    OrderPaid, one for every confirmed order
//	bucket orders     ORDER_ID       protojson of spillway.order.v1.Order
//	bucket tickets    ORDER_ID       protojson of spillway.ticketing.v1.Ticket
//
// Redis:
//
//	inventory:{SHOW}:taken      bitmap, bit i is seat i (row by row): 1 is held or sold
//	inventory:{SHOW}:expiring   sorted set of hold ids, scored by expiry in Unix milliseconds
//	inventory:{SHOW}:hold:ID    hash: seats, state, expires_ms, amount_cents
//	payment:ID                  protojson of spillway.payment.v1.Payment
//	session:HASH                hash of one session
//	session:person:ID           sorted set of the session keys of one person, see platform/session
//	ratelimit:{NAME}:KEY        state of one limit that replicas keep together, see platform/ratelimit
//
// The braces around SHOW are a Redis Cluster hash tag: all keys of one show lie
// in one slot, so that a script may touch them together. So do all limits of one
// NAME.
package keyspace

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names of streams, subjects, consumers and buckets in JetStream.
const (
	// CheckoutsStream is the work queue of checkouts that are not known to be
	// final. The order service writes it and works it off.
	CheckoutsStream = "CHECKOUTS"
	// OrderOpenedSubject carries spillway.order.v1.OrderOpened as protobuf.
	OrderOpenedSubject = "orders.opened"
	// RecoveryConsumer is the durable consumer of CheckoutsStream that all
	// replicas of order share.
	RecoveryConsumer = "order-recovery"

	// PaymentsStream is the work queue of orders whose seats are held and whose
	// card is charged when its turn comes. The order service writes it and works
	// it off.
	PaymentsStream = "PAYMENTS"
	// OrderHeldSubject carries spillway.order.v1.OrderHeld as protobuf.
	OrderHeldSubject = "orders.held"
	// PaymentsConsumer is the durable consumer of PaymentsStream that all
	// replicas of order share.
	PaymentsConsumer = "order-payments"

	// SalesStream is the log of confirmed orders. The order service writes it,
	// ticketing reads it.
	SalesStream = "SALES"
	// OrderPaidSubject carries spillway.order.v1.OrderPaid as protobuf, with
	// the order's id as Nats-Msg-Id.
	OrderPaidSubject = "orders.paid"
	// TicketingConsumer is the durable consumer of SalesStream that all
	// replicas of ticketing share.
	TicketingConsumer = "ticketing"

	// OrdersBucket holds every order under its order id.
	OrdersBucket = "orders"
	// TicketsBucket holds every issued ticket under the id of its order.
	TicketsBucket = "tickets"
)

// SalesDedupWindow is how long SalesStream remembers a Nats-Msg-Id. A sale
// that is announced again later than that is stored twice; ticketing takes it
// twice without harm, so the window only saves work.
const SalesDedupWindow = 2 * time.Minute

// Checkouts configures CheckoutsStream: a message is gone once it is
// acknowledged. It has no limit, since dropping a message would leave an order
// unfinished for ever. It deliberately has no dedup by order id: a second
// opening of an order whose first message was already worked off needs its own.
func Checkouts() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        CheckoutsStream,
		Description: "Opened checkouts, kept until they are final.",
		Subjects:    []string{OrderOpenedSubject},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
	}
}

// Payments configures PaymentsStream, as Checkouts does CheckoutsStream.
func Payments() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        PaymentsStream,
		Description: "Orders whose card is to be charged.",
		Subjects:    []string{OrderHeldSubject},
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
	}
}

// Sales configures SalesStream: a log that keeps what was read, for seven
// days, so that a consumer can be built again from it.
func Sales() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        SalesStream,
		Description: "Confirmed orders.",
		Subjects:    []string{OrderPaidSubject},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		MaxAge:      7 * 24 * time.Hour,
		Duplicates:  SalesDedupWindow,
	}
}

// Orders configures OrdersBucket. Only the latest value of an order is kept.
func Orders() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      OrdersBucket,
		Description: "Orders by order id, as JSON.",
		History:     1,
		Storage:     jetstream.FileStorage,
	}
}

// Tickets configures TicketsBucket. A ticket is written once.
func Tickets() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      TicketsBucket,
		Description: "Tickets by order id, as JSON.",
		History:     1,
		Storage:     jetstream.FileStorage,
	}
}

// Prefixes of Redis keys.
const (
	InventoryPrefix     = "inventory:"
	PaymentPrefix       = "payment:"
	SessionPrefix       = "session:"
	SessionPersonPrefix = "session:person:"
	RateLimitPrefix     = "ratelimit:"
)

// Fields and states of the hash at InventoryHold.
const (
	// HoldSeats is the comma-separated list of seat numbers, such as "12,13".
	HoldSeats = "seats"
	// HoldState is one of the Hold* states below.
	HoldState = "state"
	// HoldExpires is when a held hold ends, in Unix milliseconds.
	HoldExpires = "expires_ms"
	// HoldAmount is what the seats cost together, in cents.
	HoldAmount = "amount_cents"

	HoldHeld      = "held"
	HoldConfirmed = "confirmed"
	HoldReleased  = "released"
	HoldExpired   = "expired"
)

// InventoryTaken is the bitmap of a show's taken seats.
func InventoryTaken(show string) string { return InventoryPrefix + "{" + show + "}:taken" }

// InventoryExpiring is the sorted set of a show's holds that can expire.
func InventoryExpiring(show string) string { return InventoryPrefix + "{" + show + "}:expiring" }

// InventoryHoldPrefix is what the keys of all holds of a show begin with. The
// hold's id follows.
func InventoryHoldPrefix(show string) string { return InventoryPrefix + "{" + show + "}:hold:" }

// InventoryHold is the hash of one hold.
func InventoryHold(show, hold string) string { return InventoryHoldPrefix(show) + hold }

// HoldOf takes a key made by InventoryHold apart. ok is false for any other
// key.
func HoldOf(key string) (show, hold string, ok bool) {
	rest, ok := strings.CutPrefix(key, InventoryPrefix+"{")
	if !ok {
		return "", "", false
	}
	show, hold, ok = strings.Cut(rest, "}:hold:")
	if !ok || show == "" || hold == "" {
		return "", "", false
	}
	return show, hold, true
}

// Payment is the key of one payment's record.
func Payment(id string) string { return PaymentPrefix + id }

// Session is the key of one session, by the hex SHA-256 of its token.
func Session(hash string) string { return SessionPrefix + hash }

// SessionPerson is the set of a person's sessions.
func SessionPerson(person string) string { return SessionPersonPrefix + person }

// RateLimit is the state of limit key among those called name.
func RateLimit(name, key string) string { return RateLimitPrefix + "{" + name + "}:" + key }

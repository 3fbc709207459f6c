package main

import (
	"cmp"
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// Reasons of order.
const (
	// reasonInProgress (Aborted, retryable): the same checkout is under way;
	// the same key asks again.
	reasonInProgress = "ORDER_IN_PROGRESS"
	// reasonOrderUnknown (NotFound): there is no such order, or it is another
	// person's.
	reasonOrderUnknown = "ORDER_UNKNOWN"

	// What follows ends an order. It is answered to every Checkout with the
	// same key, so none of it is retryable: another attempt needs a new key.

	// reasonAbandoned (Aborted): the replica that worked on it went away before
	// the card was known to be charged; if it was, it is refunded.
	reasonAbandoned = "ORDER_ABANDONED"
	// reasonTimedOut (Aborted): the caller's time was over before the card was
	// charged.
	reasonTimedOut = "ORDER_TIMED_OUT"
	// reasonSeatsUnresolved (Aborted): inventory did not say whether the seats
	// are held. Where somebody was away, metadata "dependency" names whom.
	reasonSeatsUnresolved = "SEATS_UNRESOLVED"
	// reasonPaymentUnresolved (Aborted): payment did not say whether the card
	// was charged; if it was, it is refunded. Metadata as above.
	reasonPaymentUnresolved = "PAYMENT_UNRESOLVED"
)

// Reasons of downstreams that end an order and pass through it. HOLD_EXPIRED
// mostly comes from Confirm, after the card was charged, and QUOTA_EXCEEDED is
// said of the last attempt to charge, not of those before it: after both the
// payment is cancelled, which refunds what was charged.
const (
	reasonSeatUnknown   = "SEAT_UNKNOWN"
	reasonSeatTaken     = "SEAT_TAKEN"
	reasonHoldExpired   = "HOLD_EXPIRED"
	reasonCardDeclined  = "CARD_DECLINED"
	reasonQuotaExceeded = "QUOTA_EXCEEDED"
)

// reasonBankAway is payment's: the bank did not answer it.
const reasonBankAway = "BANK_AWAY"

// natsRetry is what a caller is told to wait while NATS is away.
const natsRetry = 500 * time.Millisecond

// inProgressRetry is what a caller is told to wait for an order under way.
const inProgressRetry = 250 * time.Millisecond

// failure is the answer to a Checkout whose order is cancelled or, in state
// CANCELLING, about to be, made from what is stored, so that every replay gets
// the same. It says that nothing is charged only where no charge was begun;
// else there may be one whose refund is still under way.
func failure(o *orderv1.Order) error {
	money := "nothing is charged"
	if o.GetAmountCents() > 0 { // set with HELD, so a charge may have been sent
		money = "what was charged is refunded"
	}
	code, text := codes.FailedPrecondition, "it was refused; "+money
	switch o.GetReason() {
	case problem.ShowUnknown:
		code, text = codes.NotFound, "there is no such show"
	case reasonSeatUnknown:
		code, text = codes.NotFound, "the show has no such seat"
	case reasonSeatTaken:
		text = "a seat is taken; choose other seats"
	case reasonCardDeclined:
		text = "the card was declined"
	case reasonHoldExpired:
		text = "the seats were held too long; " + money
	case reasonQuotaExceeded:
		code, text = codes.ResourceExhausted, "the bank takes no more charges at the moment; "+money
	case reasonAbandoned:
		code, text = codes.Aborted, "it was not finished in time; "+money
	case reasonTimedOut: // decided before the charge is sent, and a charge is sent once
		code, text = codes.Aborted, "it was not finished in time; nothing is charged"
	case reasonSeatsUnresolved:
		code, text = codes.Aborted, "inventory did not answer; "+money
	case reasonPaymentUnresolved:
		code, text = codes.Aborted, "payment did not answer; what was charged is refunded"
	}
	p := problem.New(code, o.GetReason(), "order %s is cancelled: %s; try again with a new idempotency key", o.GetOrderId(), text).
		With("order_id", o.GetOrderId())
	if o.GetAway() != "" {
		p = p.With("dependency", o.GetAway())
	}
	return p
}

// missing names what was away when a call of callee failed with err: callee itself,
// or what it could not reach. It is "" when callee did answer, or was too slow.
func missing(err error, callee string) string {
	p := problem.From(err)
	switch p.Reason {
	case problem.DependencyAway: // the connection's word, or callee's
		return cmp.Or(p.Metadata["dependency"], callee)
	case reasonBankAway:
		return cmp.Or(p.Metadata["dependency"], "bank")
	case problem.Canceled: // nobody gives a step up before its time: callee's end cut it off
		return callee
	case "": // no service has said anything
		if p.Code == codes.Internal || p.Code == codes.Unknown {
			return callee
		}
	}
	return ""
}

func inProgress(id string) error {
	return problem.New(codes.Aborted, reasonInProgress, "order %s is being worked on; ask again with the same idempotency key", id).
		With("order_id", id).Retry(inProgressRetry)
}

func unknownOrder(id string) error {
	return problem.New(codes.NotFound, reasonOrderUnknown, "there is no order %s", id)
}

// away is the answer while JetStream cannot be reached.
func away(cause error) error {
	return problem.New(codes.Unavailable, problem.DependencyAway, "the store does not answer; try again").
		With("dependency", "nats").Retry(natsRetry).Because(cause)
}

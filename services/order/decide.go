package main

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

const (
	pending    = orderv1.OrderState_ORDER_STATE_PENDING
	held       = orderv1.OrderState_ORDER_STATE_HELD
	paid       = orderv1.OrderState_ORDER_STATE_PAID
	confirmed  = orderv1.OrderState_ORDER_STATE_CONFIRMED
	cancelling = orderv1.OrderState_ORDER_STATE_CANCELLING
	cancelled  = orderv1.OrderState_ORDER_STATE_CANCELLED
)

// step is what is to be done next for an order.
type step string

const (
	stepHold     step = "hold"
	stepCharge   step = "charge"
	stepConfirm  step = "confirm"
	stepAnnounce step = "announce"
	// stepRelease gives back seats that may be held, when no charge was begun.
	stepRelease step = "release"
	// stepUndo cancels a payment that may have been made and gives the seats
	// back. The two are asked at the same time, and each again until it is
	// done: neither's being away may hold up the other. Their order matters to
	// no invariant. Released first: the seats may be sold to another buyer
	// while the money is still on its way back, but this order can never be
	// confirmed any more (only a PAID one is, and CANCELLING never becomes
	// PAID). Refunded first: the seats are kept a little longer for nobody.
	// CANCELLED is only written when both are done.
	stepUndo step = "undo"
	// stepAbandon turns an order whose card is not known here (its replica is
	// gone, the card is never stored) towards CANCELLING.
	stepAbandon step = "abandon"
	stepNone    step = "none"
)

// next decides what is to be done. haveCard tells whether whoever asks holds
// the card's token.
//
//	state       with the card   without
//	PENDING     hold            abandon
//	HELD        charge          abandon
//	PAID        confirm         confirm
//	CONFIRMED   announce        announce
//	CANCELLING  undo, or release if the amount is 0: it is set with HELD, before any charge
//	CANCELLED   none
func next(o *orderv1.Order, haveCard bool) step {
	switch o.GetState() {
	case pending, held:
		switch {
		case !haveCard:
			return stepAbandon
		case o.GetState() == pending:
			return stepHold
		}
		return stepCharge
	case paid:
		return stepConfirm
	case confirmed:
		return stepAnnounce
	case cancelling:
		if o.GetAmountCents() == 0 {
			return stepRelease
		}
		return stepUndo
	}
	return stepNone
}

// verdict is what a step came to.
type verdict int

const (
	// done: the step was done.
	done verdict = iota
	// refused: it was not done, for good, and left nothing behind.
	refused
	// unknown: it may have been done.
	unknown
)

// outcome is a verdict with what comes with it.
type outcome struct {
	verdict verdict
	// reason is why, when not done.
	reason string
	// amountCents is what the held seats cost, after a hold.
	amountCents int64
	// away is what was away, when that is why it is unknown.
	away string
}

// after decides the state that follows a step: the whole table of the saga.
//
//	step      done        refused      unknown
//	hold      HELD        CANCELLED    CANCELLING
//	charge    PAID        CANCELLING   CANCELLING
//	confirm   CONFIRMED   CANCELLING   again: the money is taken, the seats are decided by asking on
//	announce  stays       again        again
//	release   CANCELLED   again        again
//	undo      CANCELLED   again        again
//	abandon   CANCELLING  –            –
//
// again means that the step is to be repeated. A hold that came to nothing
// needs no compensation; an unknown one is released, which also marks it, so
// that a Hold still on its way takes nothing. A charge that was refused leaves
// the seats to be released.
func after(s step, out outcome) (state orderv1.OrderState, again bool) {
	switch s {
	case stepHold:
		return [...]orderv1.OrderState{held, cancelled, cancelling}[out.verdict], false
	case stepCharge:
		return [...]orderv1.OrderState{paid, cancelling, cancelling}[out.verdict], false
	case stepConfirm:
		if out.verdict == unknown {
			return paid, true
		}
		return [...]orderv1.OrderState{confirmed, cancelling}[out.verdict], false
	case stepAnnounce:
		return confirmed, out.verdict != done
	case stepRelease, stepUndo:
		if out.verdict != done {
			return cancelling, true
		}
		return cancelled, false
	}
	return cancelling, false // abandon
}

// leaseAfter decides the end of the lease of an order that its owner writes at
// now. It is put off only when less than half is left, so that a checkout of
// usual length ends under its first lease and the work queue, which looks
// again when that is over, need not look a third time.
func leaseAfter(ends, now time.Time, lease time.Duration) time.Time {
	if ends.Sub(now) >= lease/2 {
		return ends
	}
	return now.Add(lease)
}

// duty is what the recovery worker does about a queued order.
type duty int

const (
	// dutyAck: it is final; forget it.
	dutyAck duty = iota
	// dutyWait: somebody works on it; look again later.
	dutyWait
	// dutyTake: nobody does; take it over.
	dutyTake
)

// dutyFor decides what a replica that finds an order in the work queue does,
// and for dutyWait how long it waits. A CONFIRMED order is taken too: the
// record does not tell whether its sale was announced, and announcing again is
// harmless (same Nats-Msg-Id) and cheaper than one more write for every order.
func dutyFor(o *orderv1.Order, now time.Time) (duty, time.Duration) {
	if o.GetState() == cancelled {
		return dutyAck, 0
	}
	if left := o.GetLeaseExpiresAt().AsTime().Sub(now); left > 0 {
		return dutyWait, left
	}
	return dutyTake, 0
}

// moved is a copy of o in a new state, written by owner at now.
func moved(o *orderv1.Order, state orderv1.OrderState, out outcome, now, lease time.Time) *orderv1.Order {
	n := &orderv1.Order{
		OrderId: o.GetOrderId(), PersonId: o.GetPersonId(), ShowId: o.GetShowId(), SeatIds: o.GetSeatIds(),
		AmountCents: o.GetAmountCents(), State: state, Reason: o.GetReason(), Away: o.GetAway(), RequestHash: o.GetRequestHash(),
		LeaseOwner: o.GetLeaseOwner(), LeaseExpiresAt: timestamppb.New(lease),
		CreatedAt: o.GetCreatedAt(), UpdatedAt: timestamppb.New(now),
	}
	if out.amountCents > 0 { // known with HELD, and never again unknown: it tells that a charge may have been begun
		n.AmountCents = out.amountCents
	}
	if n.Reason == "" && (state == cancelling || state == cancelled) {
		n.Reason, n.Away = out.reason, out.away // the first failure is what the buyer is told
	}
	return n
}

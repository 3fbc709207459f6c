package main

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

func TestNextTable(t *testing.T) {
	for _, c := range []struct {
		state  orderv1.OrderState
		amount int64
		card   bool
		want   step
	}{
		{pending, 0, true, stepHold},
		{pending, 0, false, stepAbandon},
		{held, 4500, true, stepCharge},
		{held, 4500, false, stepAbandon},
		{paid, 4500, true, stepConfirm},
		{paid, 4500, false, stepConfirm},
		{confirmed, 4500, true, stepAnnounce},
		{confirmed, 4500, false, stepAnnounce},
		{cancelling, 0, true, stepRelease},
		{cancelling, 4500, true, stepUndo},
		{cancelling, 4500, false, stepUndo},
		{cancelled, 4500, true, stepNone},
	} {
		if got := next(&orderv1.Order{State: c.state, AmountCents: c.amount}, c.card); got != c.want {
			t.Errorf("%v, amount %d, card %v: %s, want %s", c.state, c.amount, c.card, got, c.want)
		}
	}
}

// From every state every outcome leads on, never back, never from a taken
// charge to an end that neither confirms nor undoes it.
func TestAfterTable(t *testing.T) {
	type row struct {
		state orderv1.OrderState
		again bool
	}
	for s, want := range map[step][3]row{
		stepHold:     {{held, false}, {cancelled, false}, {cancelling, false}},
		stepCharge:   {{paid, false}, {cancelling, false}, {cancelling, false}},
		stepConfirm:  {{confirmed, false}, {cancelling, false}, {paid, true}},
		stepAnnounce: {{confirmed, false}, {confirmed, true}, {confirmed, true}},
		stepRelease:  {{cancelled, false}, {cancelling, true}, {cancelling, true}},
		stepUndo:     {{cancelled, false}, {cancelling, true}, {cancelling, true}},
		stepAbandon:  {{cancelling, false}, {cancelling, false}, {cancelling, false}},
	} {
		for v, w := range want {
			if state, again := after(s, outcome{verdict: verdict(v)}); state != w.state || again != w.again {
				t.Errorf("%s, verdict %d: %v, %v; want %v, %v", s, v, state, again, w.state, w.again)
			}
		}
	}
}

func TestMovedKeepsTheFirstReason(t *testing.T) {
	now := time.Unix(100, 0)
	o := &orderv1.Order{OrderId: "o-1", State: pending, LeaseOwner: "me"}
	o = moved(o, held, outcome{amountCents: 4500}, now, now)
	if o.GetAmountCents() != 4500 || o.GetReason() != "" || o.GetLeaseOwner() != "me" {
		t.Errorf("after the hold: %v", o)
	}
	if o = moved(o, held, outcome{}, now, now); o.GetAmountCents() != 4500 {
		t.Error("a change of hands lost the amount, which tells that a charge may have been begun")
	}
	o = moved(o, cancelling, outcome{verdict: refused, reason: "PAYMENT_UNRESOLVED", away: "bank"}, now, now)
	o = moved(o, cancelled, outcome{reason: "SOMETHING_LATER", away: "redis"}, now, now)
	if o.GetReason() != "PAYMENT_UNRESOLVED" || o.GetAway() != "bank" || o.GetAmountCents() != 4500 {
		t.Errorf("after the end: %v", o)
	}
}

func TestDuty(t *testing.T) {
	now := time.Unix(100, 0)
	at := func(s orderv1.OrderState, lease time.Duration) *orderv1.Order {
		return &orderv1.Order{State: s, LeaseExpiresAt: timestamppb.New(now.Add(lease))}
	}
	for _, s := range []orderv1.OrderState{pending, held, paid, confirmed, cancelling} {
		if d, wait := dutyFor(at(s, time.Second), now); d != dutyWait || wait != time.Second {
			t.Errorf("%v, lease alive: %v, %v", s, d, wait)
		}
		if d, _ := dutyFor(at(s, 0), now); d != dutyTake {
			t.Errorf("%v, lease over: %v", s, d)
		}
	}
	if d, _ := dutyFor(at(cancelled, time.Second), now); d != dutyAck {
		t.Errorf("cancelled: %v", d)
	}
}

func TestLeaseIsPutOffOnlyWhenHalfIsGone(t *testing.T) {
	now, lease := time.Unix(100, 0), 4*time.Second
	if got := leaseAfter(now.Add(3*time.Second), now, lease); !got.Equal(now.Add(3 * time.Second)) {
		t.Errorf("three of four seconds left: %v", got)
	}
	for _, left := range []time.Duration{time.Second, -time.Second} {
		if got := leaseAfter(now.Add(left), now, lease); !got.Equal(now.Add(lease)) {
			t.Errorf("%v left: %v", left, got)
		}
	}
}

func TestBackoffDoublesUpToFourLeases(t *testing.T) {
	s := &saga{lease: 4 * time.Second}
	for deliveries, want := range []time.Duration{2, 2, 4, 8, 16, 16} {
		if got := s.backoff(uint64(deliveries)); got != want*time.Second {
			t.Errorf("after %d deliveries: %v, want %v", deliveries, got, want*time.Second)
		}
	}
}

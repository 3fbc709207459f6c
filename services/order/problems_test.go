package main

import (
	"strings"
	"testing"

	"spillway.dev/platform/problem"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// The answer says that nothing is charged only where no charge was sent.
func TestFailureTellsOfTheMoney(t *testing.T) {
	const nothing, refunded = "nothing is charged", "what was charged is refunded"
	for _, c := range []struct {
		reason string
		amount int64 // 0: the seats were never held, so no charge was sent
		want   string
	}{
		{reasonHoldExpired, 0, nothing},
		{reasonHoldExpired, 4500, refunded},
		{reasonAbandoned, 0, nothing},
		{reasonAbandoned, 4500, refunded},
		{reasonQuotaExceeded, 4500, refunded},
		{reasonTimedOut, 0, nothing},
		{reasonTimedOut, 4500, nothing},
		{reasonSeatsUnresolved, 0, nothing},
		{reasonPaymentUnresolved, 4500, refunded},
		{"HOLD_RELEASED", 0, nothing},
		{"HOLD_RELEASED", 4500, refunded},
	} {
		for _, state := range []orderv1.OrderState{cancelling, cancelled} {
			p := problem.From(failure(&orderv1.Order{OrderId: "o-1", State: state, Reason: c.reason, AmountCents: c.amount}))
			other := nothing
			if c.want == nothing {
				other = refunded
			}
			if p.Reason != c.reason || !strings.Contains(p.Message, c.want) || strings.Contains(p.Message, other) {
				t.Errorf("%s with %d cents, %v: %v; want %q", c.reason, c.amount, state, p, c.want)
			}
		}
	}
}

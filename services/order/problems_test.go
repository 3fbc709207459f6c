package main

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

// Who was away is told from who answered, and from who was slow.
func TestMissing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{status.Error(codes.Unavailable, "error reading from server: EOF"), "inventory"},
		{problem.New(codes.Unavailable, problem.DependencyAway, "").With("dependency", "redis"), "redis"},
		{problem.New(codes.Unavailable, reasonBankAway, ""), "bank"},
		{status.Error(codes.Canceled, ""), "inventory"},
		{status.Error(codes.Internal, "stream terminated by RST_STREAM"), "inventory"},
		{problem.New(codes.Internal, problem.Internal, ""), ""},
		{problem.New(codes.Unavailable, problem.NotServingYet, ""), ""},
		{problem.New(codes.ResourceExhausted, problem.Overloaded, ""), ""},
		{context.DeadlineExceeded, ""},
	} {
		if got := missing(c.err, "inventory"); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

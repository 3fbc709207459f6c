package main

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/problem"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
)

const (
	captured = bankv1.TransactionState_TRANSACTION_STATE_CAPTURED
	declined = bankv1.TransactionState_TRANSACTION_STATE_DECLINED
	refunded = bankv1.TransactionState_TRANSACTION_STATE_REFUNDED
	voided   = bankv1.TransactionState_TRANSACTION_STATE_VOIDED
)

func txn(state bankv1.TransactionState, amount int64) *bankv1.Transaction {
	if state == bankv1.TransactionState_TRANSACTION_STATE_UNSPECIFIED {
		return nil
	}
	t := &bankv1.Transaction{Reference: "ref-0001", AmountCents: amount, State: state}
	if state == captured || state == refunded {
		t.Captures = 1
	}
	return t
}

func TestChargeTable(t *testing.T) {
	const none = bankv1.TransactionState_TRANSACTION_STATE_UNSPECIFIED
	for _, c := range []struct {
		old    bankv1.TransactionState
		amount int64
		card   string
		want   bankv1.TransactionState
		reason string
	}{
		{none, 100, "tok_visa", captured, ""},
		{none, 100, "tok_declined_x", declined, "CARD_DECLINED"},
		{captured, 100, "tok_visa", captured, ""},
		{captured, 101, "tok_visa", captured, "IDEMPOTENCY_KEY_REUSED"},
		{declined, 100, "tok_visa", declined, "CARD_DECLINED"},
		{declined, 101, "tok_visa", declined, "IDEMPOTENCY_KEY_REUSED"},
		{refunded, 100, "tok_visa", refunded, "REFERENCE_VOIDED"},
		{voided, 100, "tok_visa", voided, "REFERENCE_VOIDED"},
	} {
		old := txn(c.old, 100)
		req := &bankv1.ChargeRequest{Reference: "ref-0001", AmountCents: c.amount, CardToken: c.card}
		got := chargeEntry(old, req, time.Unix(5, 0))
		if got.GetState() != c.want {
			t.Errorf("%v charged with %s: %v, want %v", c.old, c.card, got.GetState(), c.want)
		}
		if old != nil && got != old {
			t.Errorf("%v charged: entry was changed", c.old)
		}
		if wantCaptures := txn(c.want, 0).GetCaptures(); got.GetCaptures() != wantCaptures {
			t.Errorf("%v charged with %s: %d captures, want %d", c.old, c.card, got.GetCaptures(), wantCaptures)
		}
		if reason := problem.Reason(chargeAnswer(got, req)); reason != c.reason {
			t.Errorf("%v charged with %s: reason %q, want %q", c.old, c.card, reason, c.reason)
		}
	}
}

func TestRefundTable(t *testing.T) {
	const none = bankv1.TransactionState_TRANSACTION_STATE_UNSPECIFIED
	for old, want := range map[bankv1.TransactionState]bankv1.TransactionState{
		none: voided, captured: refunded, declined: declined, refunded: refunded, voided: voided,
	} {
		before := txn(old, 100)
		kept := proto.Clone(before)
		got := refundEntry(before, "ref-0001", time.Unix(5, 0))
		if got.GetState() != want {
			t.Errorf("%v refunded: %v, want %v", old, got.GetState(), want)
		}
		if old == want && got != before {
			t.Errorf("%v refunded: entry was changed", old)
		}
		if before != nil && !proto.Equal(before, kept) {
			t.Errorf("%v refunded: the old entry, which readers may hold, was written to", old)
		}
	}
}

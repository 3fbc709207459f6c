package main

import (
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"

	"spillway.dev/platform/problem"
)

// Reasons that only the bank gives.
const (
	// reasonCardDeclined (FailedPrecondition): the card was refused; the same
	// reference stays refused.
	reasonCardDeclined = "CARD_DECLINED"
	// reasonReferenceVoided (FailedPrecondition): the reference was voided or
	// refunded; nothing can be charged under it any more.
	reasonReferenceVoided = "REFERENCE_VOIDED"
	// reasonQuotaExceeded (ResourceExhausted, retryable): above the bank's quota;
	// nothing was charged by this call.
	reasonQuotaExceeded = "QUOTA_EXCEEDED"
	// reasonJournalFailed (Unavailable): the journal cannot be written; the
	// outcome of this call is unknown.
	reasonJournalFailed = "JOURNAL_FAILED"
)

// declinedPrefix marks the cards that the bank refuses, for tests and demos.
const declinedPrefix = "tok_declined"

// chargeEntry decides what a charge makes of a reference: the entry that the
// books then hold. old is nil for a reference that was never seen. The entry is
// old itself when nothing changes.
//
//	old        entry                  answer
//	–          CAPTURED or DECLINED   that entry, or CARD_DECLINED
//	CAPTURED   unchanged              the first answer; another amount: IDEMPOTENCY_KEY_REUSED
//	DECLINED   unchanged              CARD_DECLINED; another amount: IDEMPOTENCY_KEY_REUSED
//	REFUNDED   unchanged              REFERENCE_VOIDED
//	VOIDED     unchanged              REFERENCE_VOIDED
func chargeEntry(old *bankv1.Transaction, req *bankv1.ChargeRequest, now time.Time) *bankv1.Transaction {
	if old != nil {
		return old
	}
	entry := &bankv1.Transaction{
		Reference:   req.GetReference(),
		AmountCents: req.GetAmountCents(),
		State:       bankv1.TransactionState_TRANSACTION_STATE_CAPTURED,
		At:          timestamppb.New(now),
		Captures:    1,
	}
	if strings.HasPrefix(req.GetCardToken(), declinedPrefix) {
		entry.State = bankv1.TransactionState_TRANSACTION_STATE_DECLINED
		entry.Captures = 0
	}
	return entry
}

// chargeAnswer is what a charge is told about the entry of its reference.
func chargeAnswer(entry *bankv1.Transaction, req *bankv1.ChargeRequest) error {
	switch entry.GetState() {
	case bankv1.TransactionState_TRANSACTION_STATE_REFUNDED, bankv1.TransactionState_TRANSACTION_STATE_VOIDED:
		return problem.New(codes.FailedPrecondition, reasonReferenceVoided,
			"reference %s was voided; charge under a new reference", entry.GetReference())
	}
	if entry.GetAmountCents() != req.GetAmountCents() {
		return problem.New(codes.FailedPrecondition, problem.IdempotencyKeyReused,
			"reference %s was used for another amount; charge under a new reference", entry.GetReference())
	}
	if entry.GetState() == bankv1.TransactionState_TRANSACTION_STATE_DECLINED {
		return problem.New(codes.FailedPrecondition, reasonCardDeclined,
			"the card was declined for reference %s; charge another card under a new reference", entry.GetReference())
	}
	return nil
}

// refundEntry decides what a refund makes of a reference, as chargeEntry does:
//
//	old        entry
//	–          VOIDED: a charge that arrives late is refused
//	CAPTURED   REFUNDED
//	DECLINED, REFUNDED, VOIDED   unchanged: there is nothing to give back, and never will be
func refundEntry(old *bankv1.Transaction, reference string, now time.Time) *bankv1.Transaction {
	switch {
	case old == nil:
		return &bankv1.Transaction{
			Reference: reference,
			State:     bankv1.TransactionState_TRANSACTION_STATE_VOIDED,
			At:        timestamppb.New(now),
		}
	case old.GetState() == bankv1.TransactionState_TRANSACTION_STATE_CAPTURED:
		return &bankv1.Transaction{
			Reference:   reference,
			AmountCents: old.GetAmountCents(),
			State:       bankv1.TransactionState_TRANSACTION_STATE_REFUNDED,
			At:          timestamppb.New(now),
			Captures:    old.GetCaptures(),
		}
	}
	return old
}

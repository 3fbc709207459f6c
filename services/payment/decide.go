package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

// Reasons of payment, and those of the bank that it acts on.
const (
	// reasonCardDeclined (FailedPrecondition): the bank refused the card. The
	// bank's reason; passed on.
	reasonCardDeclined = "CARD_DECLINED"
	// reasonPaymentCancelled (FailedPrecondition): the payment was cancelled or
	// is being cancelled; nothing will be charged under its id.
	reasonPaymentCancelled = "PAYMENT_CANCELLED"
	// reasonPaymentUnknown (NotFound): there is no such payment.
	reasonPaymentUnknown = "PAYMENT_UNKNOWN"
	// reasonBankAway (Unavailable, retryable): the bank did not answer; whether
	// it acted is not known here. The same call again, or Cancel, settles it.
	reasonBankAway = "BANK_AWAY"
	// reasonQuotaExceeded (ResourceExhausted, retryable): the bank's reason;
	// passed on. This call charged nothing.
	reasonQuotaExceeded = "QUOTA_EXCEEDED"
	// reasonReferenceVoided is the bank's; payment answers PAYMENT_CANCELLED.
	reasonReferenceVoided = "REFERENCE_VOIDED"
)

const (
	pending    = paymentv1.PaymentState_PAYMENT_STATE_PENDING
	captured   = paymentv1.PaymentState_PAYMENT_STATE_CAPTURED
	declined   = paymentv1.PaymentState_PAYMENT_STATE_DECLINED
	cancelling = paymentv1.PaymentState_PAYMENT_STATE_CANCELLING
	voided     = paymentv1.PaymentState_PAYMENT_STATE_VOIDED
	refunded   = paymentv1.PaymentState_PAYMENT_STATE_REFUNDED
)

// requestHash tells one charge from another under the same id. The card's
// token is in it, the id keeps equal cards from having equal hashes.
func requestHash(req *paymentv1.ChargeRequest) []byte {
	h := sha256.New()
	for _, field := range []string{req.GetPaymentId(), req.GetCardToken()} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(field)))
		h.Write(n[:])
		h.Write([]byte(field))
	}
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(req.GetAmountCents()))
	h.Write(n[:])
	return h.Sum(nil)
}

// answerCharge is what a Charge with the given hash is told about a record.
// ask means that the bank has to be asked (again).
func answerCharge(p *paymentv1.Payment, hash []byte) (ask bool, err error) {
	// A payment that was cancelled before it came has no hash.
	if len(p.GetRequestHash()) > 0 && !bytes.Equal(p.GetRequestHash(), hash) {
		return false, problem.New(codes.FailedPrecondition, problem.IdempotencyKeyReused,
			"payment %s was asked for with another amount or card; use a new payment id", p.GetPaymentId())
	}
	switch p.GetState() {
	case pending:
		return true, nil
	case captured:
		return false, nil
	case declined:
		return false, problem.New(codes.FailedPrecondition, reasonCardDeclined,
			"the bank declined the card for payment %s; use another card under a new payment id", p.GetPaymentId())
	}
	return false, problem.New(codes.FailedPrecondition, reasonPaymentCancelled,
		"payment %s is cancelled and will not be charged; use a new payment id", p.GetPaymentId())
}

// afterCharge is the state of a PENDING payment after the bank answered a
// charge. An err other than a refusal for good leaves it open: ok is false.
func afterCharge(err error) (state paymentv1.PaymentState, ok bool) {
	switch {
	case err == nil:
		return captured, true
	case problem.Reason(err) == reasonCardDeclined:
		return declined, true
	case problem.Reason(err) == reasonReferenceVoided:
		return voided, true
	}
	return 0, false
}

// afterRefund is the state of a CANCELLING payment after the bank answered a
// refund with the given entry of its books.
func afterRefund(state bankv1.TransactionState) (_ paymentv1.PaymentState, ok bool) {
	switch state {
	case bankv1.TransactionState_TRANSACTION_STATE_REFUNDED:
		return refunded, true
	case bankv1.TransactionState_TRANSACTION_STATE_VOIDED, bankv1.TransactionState_TRANSACTION_STATE_DECLINED:
		return voided, true
	}
	return 0, false
}

// bankProblem is a failure of the bank as payment's caller sees it. Refusals
// that say whether money moved pass as they are; all else is an unknown
// outcome.
func bankProblem(err error, id string) error {
	p := problem.From(err)
	switch p.Code {
	case codes.ResourceExhausted: // as UNAVAILABLE, this refusal would be sent again by every caller
		if p.Reason != "" {
			return p
		}
	case codes.Unavailable: // nobody is to send it again, which BANK_AWAY asks for
		if p.Reason == problem.BreakerOpen {
			return p
		}
	case codes.FailedPrecondition, codes.InvalidArgument:
		return p
	case codes.DeadlineExceeded, codes.Canceled:
		return p
	}
	return problem.New(codes.Unavailable, reasonBankAway,
		"the bank did not settle payment %s; ask again with the same payment id, or cancel it", id).Retry(p.RetryAfter).Because(err)
}

// Package main is payment: it charges cards through the bank, each payment at
// most once, and keeps a record of each in Redis. It may scale; the bank behind
// it does not.
//
// Alone, beside a bank on port 9100 and a Redis:
//
//	SPILLWAY_BANK_TARGET=localhost:9100 SPILLWAY_REDIS_ADDR=localhost:6379 \
//	  SPILLWAY_GRPC_ADDR=:9000 SPILLWAY_ADMIN_ADDR=:9090 payment
//
// # What may happen to a payment
//
// A record moves only by compare-and-set on its state, so that of two calls
// that race one wins and the other sees what came of it:
//
//	–           → PENDING      Charge, before the bank is asked
//	–           → CANCELLING   Cancel of what never came, before the bank is asked
//	PENDING     → CAPTURED     the bank took the money
//	PENDING     → DECLINED     the bank refused the card
//	PENDING     → VOIDED       the bank had voided the reference already
//	PENDING     → CANCELLING   Cancel, before the bank is asked
//	CAPTURED    → CANCELLING   Cancel, before the bank is asked
//	CANCELLING  → REFUNDED     the bank gave the money back
//	CANCELLING  → VOIDED       the bank never took any, and never will
//
// The bank orders a charge and a refund of one reference (the payment's id):
// the charge is first and is given back, or the refund is first and voids the
// reference, and the late charge is refused. So, with a crash (✗) or a loss of
// the answer after any line:
//
//	Charge ✗ before PENDING              nothing happened
//	Charge PENDING ✗                     the bank may not have been asked; asked again, or Cancel voids
//	Charge PENDING, bank captured ✗      asked again: the bank's first answer; or Cancel: REFUNDED
//	Charge … CAPTURED ✗                  asked again: answered from the record
//	Cancel CANCELLING ✗                  Cancel again: the bank decides; a Charge is refused from the record
//	Cancel CANCELLING, bank refunded ✗   Cancel again: the bank answers the same, REFUNDED is recorded
//	Charge PENDING | Cancel CANCELLING, bank voids | bank refuses the charge → PAYMENT_CANCELLED; VOIDED
//	Charge PENDING, bank captures | Cancel CANCELLING, bank refunds | Charge finds CANCELLING or REFUNDED → PAYMENT_CANCELLED; REFUNDED
//	Charge PENDING, bank captures, CAPTURED | Cancel CANCELLING, bank refunds → charged, then REFUNDED
//	Charge PENDING, bank declines | Cancel CANCELLING, bank finds it declined → PAYMENT_CANCELLED; VOIDED
//	Charge ‖ Charge                      one reference at the bank, one answer; the second compare-and-set finds it done
//	Cancel ‖ Cancel                      likewise
//
// In no line is a payment CAPTURED here and refunded at the bank, or VOIDED
// here and captured at the bank. Whoever gets no answer asks again or cancels:
// the order does, by its work queue.
package main

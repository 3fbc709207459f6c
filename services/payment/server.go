package main

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/problem"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

// recordTimeout bounds writing down what the bank answered, which goes on when
// the caller has given up: an answer thrown away has to be asked for again.
const recordTimeout = 250 * time.Millisecond

// server answers PaymentService. See the package's comment for what may happen
// to a payment.
type server struct {
	paymentv1.UnimplementedPaymentServiceServer
	bank     bankv1.BankServiceClient
	payments *store
	log      *slog.Logger
}

func newServer(bank bankv1.BankServiceClient, payments *store, log *slog.Logger) *server {
	return &server{bank: bank, payments: payments, log: log}
}

// Charge takes money once for a payment id.
func (s *server) Charge(ctx context.Context, req *paymentv1.ChargeRequest) (*paymentv1.ChargeResponse, error) {
	hash := requestHash(req)
	rec, _, err := s.payments.put(ctx, record{}, &paymentv1.Payment{
		PaymentId:   req.GetPaymentId(),
		AmountCents: req.GetAmountCents(),
		State:       pending,
		RequestHash: hash,
	})
	if err != nil {
		return nil, err
	}
	ask, err := answerCharge(rec.Payment, hash)
	if err != nil {
		return nil, err
	}
	if !ask {
		return &paymentv1.ChargeResponse{Payment: rec.Payment}, nil
	}
	_, charged := s.bank.Charge(ctx, &bankv1.ChargeRequest{
		Reference:   req.GetPaymentId(),
		AmountCents: req.GetAmountCents(),
		CardToken:   req.GetCardToken(),
	})
	state, settled := afterCharge(charged)
	if !settled {
		return nil, bankProblem(charged, req.GetPaymentId())
	}
	if rec, err = s.settle(ctx, rec, state, req.GetAmountCents()); err != nil {
		return nil, err
	}
	if _, err := answerCharge(rec.Payment, hash); err != nil {
		return nil, err
	}
	return &paymentv1.ChargeResponse{Payment: rec.Payment}, nil
}

// Cancel undoes a payment, or sees to it that it never comes.
func (s *server) Cancel(ctx context.Context, req *paymentv1.CancelRequest) (*paymentv1.CancelResponse, error) {
	rec, err := s.payments.get(ctx, req.GetPaymentId())
	for err == nil {
		next := &paymentv1.Payment{PaymentId: req.GetPaymentId()}
		if rec.exists() {
			switch rec.GetState() {
			case declined, voided, refunded:
				return &paymentv1.CancelResponse{Payment: rec.Payment}, nil
			}
			next = proto.CloneOf(rec.Payment)
		}
		if next.GetState() == cancelling { // begun before
			break
		}
		next.State = cancelling
		var won bool
		if rec, won, err = s.payments.put(ctx, rec, next); won {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	// A record alone does not prove that the bank was never asked (Redis may
	// have lost one), so the bank always is.
	resp, err := s.bank.Refund(ctx, &bankv1.RefundRequest{Reference: req.GetPaymentId()})
	if err != nil {
		return nil, bankProblem(err, req.GetPaymentId())
	}
	state, ok := afterRefund(resp.GetTransaction().GetState())
	if !ok {
		return nil, problem.New(codes.Internal, problem.Internal,
			"the bank left payment %s in state %v after a refund; look into its books", req.GetPaymentId(), resp.GetTransaction().GetState())
	}
	if rec, err = s.settle(ctx, rec, state, resp.GetTransaction().GetAmountCents()); err != nil {
		return nil, err
	}
	return &paymentv1.CancelResponse{Payment: rec.Payment}, nil
}

// settle writes down how the bank answered to a record and returns the record
// that holds then: another call's, if one was faster.
func (s *server) settle(ctx context.Context, rec record, state paymentv1.PaymentState, amount int64) (record, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	next := proto.CloneOf(rec.Payment)
	next.State = state
	if next.GetAmountCents() == 0 {
		next.AmountCents = amount
	}
	now, won, err := s.payments.put(ctx, rec, next)
	if err != nil {
		return record{}, err
	}
	if !won && !now.exists() {
		return record{}, problem.New(codes.Internal, problem.Internal,
			"the record of payment %s is gone; restore the store, or cancel the payment", rec.GetPaymentId())
	}
	if won {
		s.log.InfoContext(ctx, "payment settled", "payment", next.GetPaymentId(), "state", next.GetState().String(), "amount_cents", next.GetAmountCents())
	}
	return now, nil
}

// GetPayment returns a payment as its record has it.
func (s *server) GetPayment(ctx context.Context, req *paymentv1.GetPaymentRequest) (*paymentv1.GetPaymentResponse, error) {
	rec, err := s.payments.get(ctx, req.GetPaymentId())
	if err != nil {
		return nil, err
	}
	if !rec.exists() {
		return nil, problem.New(codes.NotFound, reasonPaymentUnknown, "there is no payment %s", req.GetPaymentId())
	}
	return &paymentv1.GetPaymentResponse{Payment: rec.Payment}, nil
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// answerTime is what is kept of a caller's deadline to answer "in progress"
// while it still listens.
const answerTime = 25 * time.Millisecond

// server answers OrderService.
type server struct {
	orderv1.UnimplementedOrderServiceServer
	store *store
	saga  *saga
	// payment is when a card is charged: payAtOnce or payQueued.
	payment func() string
}

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// orderID names the order of a person's idempotency key: 128 bits of a
// SHA-256, so that no two keys meet and nobody guesses one.
func orderID(person, key string) string {
	sum := sha256.Sum256([]byte(person + "\x00" + key))
	return "o-" + encoding.EncodeToString(sum[:16])
}

// requestHash tells one request from another under the same key. Person and
// key are in it, so that equal cards do not have equal hashes.
func requestHash(req *orderv1.CheckoutRequest) []byte {
	h := sha256.New()
	fields := append([]string{req.GetPersonId(), req.GetIdempotencyKey(), req.GetCardToken(), req.GetShowId()}, req.GetSeatIds()...)
	for _, field := range fields {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(field)))
		h.Write(n[:])
		h.Write([]byte(field))
	}
	return h.Sum(nil)
}

// owner names one saga's run. No two have the same name, so a replica that
// comes back under its old name does not take another's lease for its own.
func (s *saga) owner() string { return s.store.instance + "/" + strings.ToLower(rand.Text()[:8]) }

// Checkout buys seats, or says again what came of the same request before.
func (s *server) Checkout(ctx context.Context, req *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
	id, hash := orderID(req.GetPersonId(), req.GetIdempotencyKey()), requestHash(req)
	rec, err := s.store.get(ctx, id)
	if err != nil {
		return nil, err
	}
	created := false
	if !rec.exists() {
		opening, cancel := context.WithTimeout(ctx, natsTimeout)
		rec, created, err = s.saga.open(opening, id, hash, req)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	if created {
		queued := s.payment() == payQueued
		if queued {
			if rec, queued, err = s.saga.reserve(ctx, rec, req.GetCardToken()); err != nil && !decided(rec.Order) {
				return nil, err
			}
		}
		if queued {
			return &orderv1.CheckoutResponse{Order: public(rec.Order)}, nil
		}
		if rec, err = s.saga.run(ctx, rec, errand{card: req.GetCardToken(), extra: s.saga.lease}); err != nil && !decided(rec.Order) {
			return nil, err
		}
		return answer(rec, id)
	}
	if !bytes.Equal(rec.GetRequestHash(), hash) {
		return nil, problem.New(codes.FailedPrecondition, problem.IdempotencyKeyReused,
			"this idempotency key was used for another checkout; use a new one").With("order_id", id)
	}
	if awaitsPayment(rec.Order) {
		return &orderv1.CheckoutResponse{Order: public(rec.Order)}, nil
	}
	if !decided(rec.Order) {
		waiting := ctx
		if deadline, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			waiting, cancel = context.WithDeadline(ctx, deadline.Add(-answerTime))
			defer cancel()
		}
		rec, err = s.store.await(waiting, id, decided)
		if err != nil {
			return nil, err
		}
	}
	return answer(rec, id)
}

// decided tells whether what a buyer is told of an order is settled: nothing
// leads from CANCELLING back.
func decided(o *orderv1.Order) bool {
	switch o.GetState() {
	case confirmed, cancelling, cancelled:
		return true
	}
	return false
}

func answer(rec record, id string) (*orderv1.CheckoutResponse, error) {
	switch rec.GetState() {
	case confirmed:
		return &orderv1.CheckoutResponse{Order: public(rec.Order)}, nil
	case cancelling, cancelled:
		return nil, failure(rec.Order)
	}
	return nil, inProgress(id)
}

// public is an order without what concerns only the replicas.
func public(o *orderv1.Order) *orderv1.Order {
	return &orderv1.Order{
		OrderId: o.GetOrderId(), PersonId: o.GetPersonId(), ShowId: o.GetShowId(), SeatIds: o.GetSeatIds(),
		AmountCents: o.GetAmountCents(), State: o.GetState(), Reason: o.GetReason(),
		CreatedAt: o.GetCreatedAt(), UpdatedAt: o.GetUpdatedAt(),
	}
}

// GetOrder returns a person's order. Another person's is not there.
func (s *server) GetOrder(ctx context.Context, req *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
	rec, err := s.store.get(ctx, req.GetOrderId())
	if err != nil {
		return nil, err
	}
	if !rec.exists() || rec.GetPersonId() != req.GetPersonId() {
		return nil, unknownOrder(req.GetOrderId())
	}
	return &orderv1.GetOrderResponse{Order: public(rec.Order)}, nil
}

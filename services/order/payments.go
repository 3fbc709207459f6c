package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/knobs"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// When a card is charged, as the knob order.payment says.
const (
	// payAtOnce: the buyer waits for the charge.
	payAtOnce = "at-once"
	// payQueued: the buyer waits for the seats only; the charge waits its turn.
	payQueued = "queued"
)

const (
	// payPatience is how long after its checkout an order may wait for its
	// charge. It ends before inventory's holds do (two minutes): a charge that
	// comes after that would have to be refunded.
	payPatience = 90 * time.Second
	// payments is how many charges from the queue a replica is about at a time.
	payments = 16
	// backlogInterval is how often the length of the queue is looked at.
	backlogInterval = 500 * time.Millisecond
)

// paymentKnob declares when cards are charged, and tells it.
func paymentKnob(set *knobs.Set) func() string {
	return set.Choice("order.payment", payAtOnce, []string{payAtOnce, payQueued},
		"at-once: a checkout waits for its charge; queued: it waits for the seats only, and the card is charged from a queue").Get
}

// payBy is until when an order may wait for its charge. That is the end of its
// lease meanwhile: the message on the queue of payments is what gives a replica
// the right to go on with it, and once the time is over whoever finds it undoes
// it.
func payBy(o *orderv1.Order) time.Time { return o.GetCreatedAt().AsTime().Add(payPatience) }

// awaitsPayment tells whether an order is on the queue of payments.
func awaitsPayment(o *orderv1.Order) bool {
	return o.GetState() == held && o.GetLeaseExpiresAt().AsTime().Equal(payBy(o))
}

// reserve holds the seats of a new order and puts its charge on the queue. With
// queued false the order is not on it, and is to be carried on as ever: it was
// cancelled, or the queue did not answer.
func (s *saga) reserve(ctx context.Context, rec record, card string) (now record, queued bool, err error) {
	if now, err = s.run(ctx, rec, errand{card: card, extra: s.lease, reserve: true}); err != nil || now.GetState() != held {
		return now, false, err
	}
	if err := s.store.payLater(ctx, now.GetOrderId(), card); err != nil {
		s.log.WarnContext(ctx, "the queue of payments does not answer; the order is paid at once", "order", now.GetOrderId(), "error", err)
		return now, false, nil
	}
	return now, true, nil
}

// payQueue works the queue of payments off until ctx ends, whatever the knob
// says now: what is on it was promised.
func (s *saga) payQueue(work func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		return s.workOff(ctx, keyspace.PaymentsStream, paymentsConsumer(s.lease), payments,
			func(ctx context.Context, msg jetstream.Msg) (bool, time.Duration) { return s.pay(ctx, msg, work) })
	}
}

func paymentsConsumer(lease time.Duration) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       keyspace.PaymentsConsumer,
		Description:   "Charges the cards of orders whose seats are held.",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       3 * lease,
		MaxDeliver:    -1,
		MaxAckPending: recoveryPending,
	}
}

// pay carries a queued order on through its charge. It takes a slot of the
// replica, as a call does. A charge of which nothing is known stays on the
// queue: it is asked for again under the same id until payBy.
func (s *saga) pay(ctx context.Context, msg jetstream.Msg, work func(context.Context) error) (again bool, wait time.Duration) {
	queued := &orderv1.OrderHeld{}
	if err := proto.Unmarshal(msg.Data(), queued); err != nil || queued.GetOrderId() == "" {
		s.log.ErrorContext(ctx, "payments: message is not an OrderHeld; dropped, its order will be undone", "error", err)
		return false, 0
	}
	id, later := queued.GetOrderId(), againMost+rand.N(againMost)
	rec, err := s.store.get(ctx, id)
	if err != nil {
		s.log.WarnContext(ctx, "payments: order not read", "order", id, "error", err)
		return true, later
	}
	if !rec.exists() || decided(rec.Order) {
		return false, 0
	}
	if !s.now().Before(payBy(rec.Order)) {
		return false, 0 // the recovery undoes it
	}
	if err := work(ctx); err != nil {
		return true, later
	}
	s.charged.Inc()
	err = s.store.messaging.Consume(ctx, msg.Subject(), msg.Headers(), func(ctx context.Context) error {
		rec, err := s.takeOver(ctx, rec, payBy(rec.Order))
		if err != nil {
			return err
		}
		_, err = s.run(ctx, rec, errand{card: queued.GetCardToken(), patient: true})
		return err
	})
	if err != nil {
		s.log.WarnContext(ctx, "payments: order not paid yet", "order", id, "error", err)
		return true, later
	}
	return false, 0
}

// watchBacklog keeps the length of the queue of payments as a metric until ctx
// ends.
func (s *saga) watchBacklog(ctx context.Context) error {
	if err := s.store.ensure(ctx); err != nil {
		return err
	}
	setup, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	consumer, err := s.store.js.CreateOrUpdateConsumer(setup, keyspace.PaymentsStream, paymentsConsumer(s.lease))
	if err != nil {
		return fmt.Errorf("consumer %s: %w", keyspace.PaymentsConsumer, err)
	}
	tick := time.NewTicker(backlogInterval)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, natsTimeout)
		info, err := consumer.Info(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("consumer %s: %w", keyspace.PaymentsConsumer, err)
		}
		s.backlog.Set(float64(info.NumPending) + float64(info.NumAckPending))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

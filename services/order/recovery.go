package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/keyspace"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

const (
	// recoveries is how many orders one replica recovers at once.
	recoveries = 16
	// recoveryPending is how many messages may be out for all replicas
	// together. An order that is being worked on counts until its lease is
	// over, so this bounds checkouts in a lease's time: 1,600 a second at 5 s.
	recoveryPending = 8192
	// orphanAge is when a message whose order never came is dropped.
	orphanAge = time.Minute
)

// recoverOrders works the queue of opened orders off until ctx ends, and
// finishes what it holds then. Most deliveries find an order in good hands or
// final; what remains is carried on from where its replica left it.
func (s *saga) recoverOrders(ctx context.Context) error {
	return s.workOff(ctx, keyspace.CheckoutsStream, jetstream.ConsumerConfig{
		Durable:       keyspace.RecoveryConsumer,
		Description:   "Finishes checkouts whose replica is gone.",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       3 * s.lease, // longer than s.one works on one
		MaxDeliver:    -1,
		MaxAckPending: recoveryPending,
	}, recoveries, s.look)
}

// workOff takes messages of a stream until ctx ends, so many at a time, and
// finishes what it holds then.
func (s *saga) workOff(ctx context.Context, stream string, config jetstream.ConsumerConfig, atATime int,
	look func(context.Context, jetstream.Msg) (again bool, wait time.Duration),
) error {
	if err := s.store.ensure(ctx); err != nil {
		return err
	}
	setup, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	consumer, err := s.store.js.CreateOrUpdateConsumer(setup, stream, config)
	if err != nil {
		return fmt.Errorf("consumer %s: %w", config.Durable, err)
	}
	// Few are fetched ahead: what a replica holds when it is killed waits for
	// AckWait.
	messages, err := consumer.Messages(jetstream.PullMaxMessages(4*atATime), jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return fmt.Errorf("consumer %s: %w", config.Durable, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Drain)()

	var working sync.WaitGroup
	defer working.Wait()
	slots := make(chan struct{}, atATime)
	for {
		msg, err := messages.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed) && ctx.Err() != nil:
			return nil
		case err != nil: // boot runs the worker again, which builds all of this anew
			return fmt.Errorf("consumer %s: %w", config.Durable, err)
		}
		slots <- struct{}{}
		working.Go(func() {
			defer func() { <-slots }()
			s.one(context.WithoutCancel(ctx), msg, look)
		})
	}
}

// one looks at one queued order and answers its message, in the time of one
// lease; what is not done then is looked at again. A message that cannot be
// answered comes back by itself.
func (s *saga) one(ctx context.Context, msg jetstream.Msg, look func(context.Context, jetstream.Msg) (again bool, wait time.Duration)) {
	ctx, cancel := context.WithTimeout(ctx, s.lease)
	defer cancel()
	var err error
	if again, wait := look(ctx, msg); again {
		err = msg.NakWithDelay(wait)
	} else {
		err = msg.Ack()
	}
	if err != nil {
		s.log.WarnContext(ctx, "message not answered; it will come back", "subject", msg.Subject(), "error", err)
	}
}

// look finishes the order of a message if that is this replica's to do. again
// tells that the order is not final, and when to look again.
func (s *saga) look(ctx context.Context, msg jetstream.Msg) (again bool, wait time.Duration) {
	meta, err := msg.Metadata()
	if err != nil {
		s.log.ErrorContext(ctx, "recovery: message without metadata dropped", "error", err)
		return false, 0
	}
	opened := &orderv1.OrderOpened{}
	if err := proto.Unmarshal(msg.Data(), opened); err != nil || opened.GetOrderId() == "" {
		s.log.ErrorContext(ctx, "recovery: message is not an OrderOpened; dropped", "sequence", meta.Sequence.Stream, "error", err)
		return false, 0
	}
	id := opened.GetOrderId()
	rec, err := s.store.get(ctx, id)
	if err != nil {
		s.log.WarnContext(ctx, "recovery: order not read", "order", id, "error", err)
		return true, s.backoff(meta.NumDelivered)
	}
	if !rec.exists() {
		// Its replica is about to write it, or went away before it did.
		return s.now().Sub(meta.Timestamp) < orphanAge, s.lease
	}
	switch duty, wait := dutyFor(rec.Order, s.now()); duty {
	case dutyAck:
		return false, 0
	case dutyWait:
		// One that waits for its charge has a long lease, and may well be final
		// before it is over.
		return true, min(wait, 4*s.lease) + rand.N(50*time.Millisecond)
	}
	if rec.GetState() == confirmed {
		return s.store.announceAgain(ctx, rec.Order, msg.Headers()) != nil, s.backoff(meta.NumDelivered)
	}
	err = s.store.messaging.Consume(ctx, msg.Subject(), msg.Headers(), func(ctx context.Context) error {
		from := rec.GetState()
		rec, err := s.takeOver(ctx, rec, s.now().Add(s.lease))
		if err != nil {
			return err
		}
		s.recovered.WithLabelValues(from.String()).Inc()
		s.log.InfoContext(ctx, "recovery: order taken over", "order", id, "from", from.String())
		_, err = s.run(ctx, rec, errand{undo: true})
		return err
	})
	if err != nil {
		s.log.WarnContext(ctx, "recovery: order not finished yet", "order", id, "error", err)
		return true, s.backoff(meta.NumDelivered)
	}
	return false, 0
}

// backoff doubles with each delivery, from half a lease to four: what waits for
// somebody who is away is asked for more seldom the longer that lasts.
func (s *saga) backoff(deliveries uint64) time.Duration {
	return s.lease / 2 << min(max(deliveries, 1)-1, 3)
}

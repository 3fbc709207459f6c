package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/telemetry"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

const (
	// poisonDeliveries is how often a sale that cannot be read is tried: a
	// newer replica, in a rolling update, may understand it.
	poisonDeliveries = 5
	// poisonPause is between those.
	poisonPause = time.Second
	// issueTimeout bounds the work on one ticket: two requests to JetStream, and
	// its turn among those that this replica holds.
	issueTimeout = 4 * natsTimeout
	// maxPending is how many sales may be out for all replicas together.
	maxPending = 4096
	// backlogInterval is how often the backlog is measured.
	backlogInterval = time.Second
)

// office works the sales off.
type office struct {
	store     *store
	messaging *telemetry.Messaging
	cfg       *config
	log       *slog.Logger
	// work takes the modelled time of one ticket; boot's App.Work.
	work func(context.Context) error

	issued  prometheus.Counter
	again   prometheus.Counter
	poison  prometheus.Counter
	backlog prometheus.Gauge
}

func newOffice(st *store, messaging *telemetry.Messaging, cfg *config, log *slog.Logger, reg prometheus.Registerer, work func(context.Context) error) (*office, error) {
	o := &office{
		store: st, messaging: messaging, cfg: cfg, log: log, work: work,
		issued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_ticketing_tickets_issued_total",
			Help: "Tickets issued by this replica.",
		}),
		again: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_ticketing_duplicates_total",
			Help: "Sales that were delivered again after their ticket was issued.",
		}),
		poison: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_ticketing_poison_messages_total",
			Help: "Sales given up because they cannot be read. Each is an order without a ticket.",
		}),
		backlog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "spillway_ticketing_backlog_messages",
			Help: "Sales without a ticket, of all replicas together: not yet delivered, or delivered and not acknowledged.",
		}),
	}
	return o, errors.Join(reg.Register(o.issued), reg.Register(o.again), reg.Register(o.poison), reg.Register(o.backlog))
}

// consumer is the one that all replicas share.
func (o *office) consumer(ctx context.Context) (jetstream.Consumer, error) {
	if err := o.store.ensure(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	c, err := o.store.js.CreateOrUpdateConsumer(ctx, keyspace.SalesStream, jetstream.ConsumerConfig{
		Durable:       keyspace.TicketingConsumer,
		Description:   "Issues tickets.",
		FilterSubject: keyspace.OrderPaidSubject,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       o.cfg.AckWait,
		MaxDeliver:    -1, // a store that is away is not the sale's fault
		MaxAckPending: maxPending,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", keyspace.TicketingConsumer, err)
	}
	return c, nil
}

// run issues tickets until ctx ends, and finishes what it holds then.
func (o *office) run(ctx context.Context) error {
	consumer, err := o.consumer(ctx)
	if err != nil {
		return err
	}
	// What is fetched ahead is at most one more for each worker: the rest of
	// the backlog stays where other replicas can take it.
	messages, err := consumer.Messages(jetstream.PullMaxMessages(2*o.cfg.Workers),
		jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(5*time.Second))
	if err != nil {
		return fmt.Errorf("consumer %s: %w", keyspace.TicketingConsumer, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Drain)()

	var working sync.WaitGroup
	defer working.Wait()
	slots := make(chan struct{}, o.cfg.Workers)
	for {
		msg, err := messages.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed) && ctx.Err() != nil:
			return nil
		case err != nil: // boot runs the worker again, which builds all of this anew
			return fmt.Errorf("consumer %s: %w", keyspace.TicketingConsumer, err)
		}
		slots <- struct{}{}
		working.Go(func() {
			defer func() { <-slots }()
			o.handle(context.WithoutCancel(ctx), msg)
		})
	}
}

// fate is what becomes of a message.
type fate int

const (
	fateAck fate = iota
	fateAgain
	fateTerminate
)

// fateOf decides about a message after an attempt. readable tells whether it
// was understood, err whether the ticket could not be written.
func fateOf(readable bool, err error, deliveries uint64) (fate, time.Duration) {
	switch {
	case readable && err == nil:
		return fateAck, 0
	case readable:
		return fateAgain, min(100*time.Millisecond<<min(deliveries-1, 6), 5*time.Second)
	case deliveries < poisonDeliveries:
		return fateAgain, poisonPause
	}
	return fateTerminate, 0
}

func (o *office) handle(ctx context.Context, msg jetstream.Msg) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	deliveries, sequence := uint64(1), uint64(0)
	if meta, err := msg.Metadata(); err == nil {
		deliveries, sequence = meta.NumDelivered, meta.Sequence.Stream
	}
	readable := true
	err := o.messaging.Consume(ctx, msg.Subject(), msg.Headers(), func(ctx context.Context) error {
		sale, err := readSale(msg.Data())
		if err != nil {
			readable = false
			return err
		}
		if err := o.work(ctx); err != nil {
			return fmt.Errorf("ticket of order %s: %w", sale.GetOrderId(), err)
		}
		return o.issueTicket(ctx, sale)
	})
	what, wait := fateOf(readable, err, deliveries)
	var answered error
	switch what {
	case fateAck:
		answered = msg.Ack()
	case fateAgain:
		o.log.WarnContext(ctx, "sale will be tried again", "sequence", sequence, "deliveries", deliveries, "in", wait, "error", err)
		answered = msg.NakWithDelay(wait)
	case fateTerminate:
		o.poison.Inc()
		o.log.ErrorContext(ctx, "sale given up: it cannot be read; its order has no ticket. Look at it in the stream and issue the ticket by hand",
			"stream", keyspace.SalesStream, "sequence", sequence, "deliveries", deliveries, "error", err)
		answered = msg.TermWithReason("unreadable")
	}
	if answered != nil {
		o.log.WarnContext(ctx, "sale not acknowledged; it will be delivered again", "sequence", sequence, "error", answered)
	}
}

// readSale understands a message's body.
func readSale(data []byte) (*orderv1.OrderPaid, error) {
	sale := &orderv1.OrderPaid{}
	if err := proto.Unmarshal(data, sale); err != nil {
		return nil, fmt.Errorf("not an OrderPaid: %w", err)
	}
	if sale.GetOrderId() == "" || sale.GetPersonId() == "" || sale.GetShowId() == "" || len(sale.GetSeatIds()) == 0 {
		return nil, errors.New("an OrderPaid that lacks its order, person, show or seats")
	}
	return sale, nil
}

func (o *office) issueTicket(ctx context.Context, sale *orderv1.OrderPaid) error {
	ticket := &ticketingv1.Ticket{
		// Drawn, not derived: a ticket's number must not be guessed from its
		// order's. Whoever creates the record has decided it.
		TicketId: "t-" + strings.ToLower(rand.Text()),
		OrderId:  sale.GetOrderId(),
		PersonId: sale.GetPersonId(),
		ShowId:   sale.GetShowId(),
		SeatIds:  sale.GetSeatIds(),
		IssuedAt: timestamppb.Now(),
	}
	issued, err := o.store.issue(ctx, ticket)
	switch {
	case err != nil:
		return fmt.Errorf("ticket of order %s: %w", sale.GetOrderId(), err)
	case issued:
		o.issued.Inc()
	default:
		o.again.Inc()
	}
	return nil
}

// watchBacklog keeps the backlog metric up to date until ctx ends.
func (o *office) watchBacklog(ctx context.Context) error {
	consumer, err := o.consumer(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(backlogInterval)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, natsTimeout)
		info, err := consumer.Info(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("consumer %s: %w", keyspace.TicketingConsumer, err)
		}
		o.backlog.Set(float64(info.NumPending) + float64(info.NumAckPending))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

const (
	// natsTimeout bounds one request to JetStream, which takes milliseconds.
	natsTimeout = time.Second
	// natsRetry is what a caller is told to wait while NATS is away.
	natsRetry = 500 * time.Millisecond
)

// store keeps tickets in JetStream. Its errors are problems. Safe for
// concurrent use.
type store struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int // servers of NATS that keep what is stored

	ensuring chan struct{} // whoever creates what is missing holds it: a herd of callers would only slow that down

	mu      sync.Mutex
	tickets jetstream.KeyValue // nil until ensured, and again when it turns out to be gone
}

func newStore(nc *nats.Conn, replicas int) (*store, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return &store{nc: nc, js: js, replicas: replicas, ensuring: make(chan struct{}, 1)}, nil
}

// ensure creates what is missing in JetStream. Replicas may do so at once.
func (s *store) ensure(ctx context.Context) error {
	_, err := s.bucket(ctx)
	return err
}

func (s *store) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	if !s.nc.IsConnected() { // waiting for a reconnect would only use up the caller's time
		return nil, away(nats.ErrDisconnected)
	}
	if tickets := s.known(); tickets != nil {
		return tickets, nil
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	select {
	case s.ensuring <- struct{}{}:
		defer func() { <-s.ensuring }()
	case <-ctx.Done():
		return nil, away(ctx.Err())
	}
	if tickets := s.known(); tickets != nil { // another caller was faster
		return tickets, nil
	}
	stream, bucket := keyspace.Sales(), keyspace.Tickets()
	stream.Replicas, bucket.Replicas = s.replicas, s.replicas
	if _, err := s.js.CreateOrUpdateStream(ctx, stream); err != nil {
		return nil, away(fmt.Errorf("stream %s: %w", keyspace.SalesStream, err))
	}
	tickets, err := s.js.CreateOrUpdateKeyValue(ctx, bucket)
	if err != nil {
		return nil, away(fmt.Errorf("bucket %s: %w", keyspace.TicketsBucket, err))
	}
	s.mu.Lock()
	s.tickets = tickets
	s.mu.Unlock()
	return tickets, nil
}

func (s *store) known() jetstream.KeyValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tickets
}

// failed makes a problem of an error of JetStream. Where it may mean that the
// bucket is gone (a broker that came back without its disk), the next call
// creates it again.
func (s *store) failed(err error) error {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) {
		s.mu.Lock()
		s.tickets = nil
		s.mu.Unlock()
	}
	return away(err)
}

// away is the answer while JetStream cannot be reached.
func away(cause error) error {
	return problem.New(codes.Unavailable, problem.DependencyAway, "the store does not answer; try again").
		With("dependency", "nats").Retry(natsRetry).Because(cause)
}

// get reads the ticket of an order; nil when it is not issued.
func (s *store) get(ctx context.Context, order string) (*ticketingv1.Ticket, error) {
	tickets, err := s.bucket(ctx)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	entry, err := tickets.Get(bounded, order)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, s.failed(err)
	}
	t := &ticketingv1.Ticket{}
	if err := protojson.Unmarshal(entry.Value(), t); err != nil {
		return nil, fmt.Errorf("the record of the ticket of order %s is damaged: %w", order, err)
	}
	return t, nil
}

// issue writes the ticket of an order, if there is none yet. issued tells
// whether this call did; without an error there is one either way.
func (s *store) issue(ctx context.Context, t *ticketingv1.Ticket) (issued bool, err error) {
	tickets, err := s.bucket(ctx)
	if err != nil {
		return false, err
	}
	raw, err := protojson.Marshal(t)
	if err != nil {
		return false, fmt.Errorf("ticket of order %s: %w", t.GetOrderId(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	_, err = tickets.Create(ctx, t.GetOrderId(), raw)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return false, nil
	}
	if err != nil {
		return false, s.failed(err)
	}
	return true, nil
}

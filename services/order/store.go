package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/telemetry"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

const (
	// natsTimeout bounds one request to JetStream, which takes milliseconds: a
	// caller learns soon that it is away.
	natsTimeout = time.Second
	// natsPause is between attempts to write what must be written.
	natsPause = 50 * time.Millisecond
)

// errLost says that somebody else wrote the order in the meantime.
var errLost = errors.New("another replica has taken the order over")

// record is an order as it is stored: rev is what a write must name to be the
// next one.
type record struct {
	*orderv1.Order
	raw []byte
	rev uint64
}

func (r record) exists() bool { return r.Order != nil }

// store keeps orders, the work queue and the sales in JetStream. Its errors
// are problems, or errLost. Safe for concurrent use.
type store struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	messaging *telemetry.Messaging
	instance  string
	replicas  int // servers of NATS that keep what is stored

	ensuring chan struct{} // whoever creates what is missing holds it: a herd of callers would only slow that down

	mu     sync.Mutex
	orders jetstream.KeyValue // nil until ensured, and again when it turns out to be gone
}

func newStore(nc *nats.Conn, messaging *telemetry.Messaging, instance string, replicas int) (*store, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return &store{nc: nc, js: js, messaging: messaging, instance: instance, replicas: replicas, ensuring: make(chan struct{}, 1)}, nil
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
	if orders := s.known(); orders != nil {
		return orders, nil
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	select {
	case s.ensuring <- struct{}{}:
		defer func() { <-s.ensuring }()
	case <-ctx.Done():
		return nil, away(ctx.Err())
	}
	if orders := s.known(); orders != nil { // another caller was faster
		return orders, nil
	}
	for _, stream := range []jetstream.StreamConfig{keyspace.Checkouts(), keyspace.Payments(), keyspace.Sales()} {
		stream.Replicas = s.replicas
		if _, err := s.js.CreateOrUpdateStream(ctx, stream); err != nil {
			return nil, away(fmt.Errorf("stream %s: %w", stream.Name, err))
		}
	}
	bucket := keyspace.Orders()
	bucket.Replicas = s.replicas
	orders, err := s.js.CreateOrUpdateKeyValue(ctx, bucket)
	if err != nil {
		return nil, away(fmt.Errorf("bucket %s: %w", keyspace.OrdersBucket, err))
	}
	s.mu.Lock()
	s.orders = orders
	s.mu.Unlock()
	return orders, nil
}

func (s *store) known() jetstream.KeyValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.orders
}

// failed makes a problem of an error of JetStream. Where it may mean that the
// streams are gone (a broker that came back without its disk), the next call
// creates them again.
func (s *store) failed(err error) error {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) {
		s.mu.Lock()
		s.orders = nil
		s.mu.Unlock()
	}
	return away(err)
}

// get reads an order; the zero record when there is none.
func (s *store) get(ctx context.Context, id string) (record, error) {
	orders, err := s.bucket(ctx)
	if err != nil {
		return record{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	entry, err := orders.Get(bounded, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return record{}, ctx.Err()
		}
		return record{}, s.failed(err)
	}
	return parse(entry)
}

func parse(entry jetstream.KeyValueEntry) (record, error) {
	o := &orderv1.Order{}
	if err := protojson.Unmarshal(entry.Value(), o); err != nil {
		return record{}, fmt.Errorf("the record of order %s is damaged: %w", entry.Key(), err)
	}
	return record{o, entry.Value(), entry.Revision()}, nil
}

// put writes next over old (the zero record: over nothing), if old is still
// what is stored; otherwise errLost. It tries until ctx ends when JetStream
// does not answer. A write whose answer was lost is recognized by its bytes,
// which no other writer makes: they name the lease's owner.
func (s *store) put(ctx context.Context, old record, next *orderv1.Order) (record, error) {
	id := next.GetOrderId()
	raw, err := protojson.Marshal(next)
	if err != nil {
		return record{}, fmt.Errorf("order %s: %w", id, err)
	}
	for {
		rev, err := s.write(ctx, id, raw, old.rev)
		if err == nil {
			return record{next, raw, rev}, nil
		}
		if outdated(err) {
			var now record
			if now, err = s.get(ctx, id); err == nil {
				if now.exists() && bytes.Equal(now.raw, raw) {
					return now, nil
				}
				return now, errLost
			}
		}
		if s.nc.IsClosed() || !pause(ctx, natsPause) { // a closed connection does not come back
			return record{}, err
		}
	}
}

func (s *store) write(ctx context.Context, id string, raw []byte, rev uint64) (uint64, error) {
	orders, err := s.bucket(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	if rev == 0 {
		rev, err = orders.Create(ctx, id, raw)
	} else {
		rev, err = orders.Update(ctx, id, raw, rev)
	}
	if err != nil && !outdated(err) {
		err = s.failed(err)
	}
	return rev, err
}

// outdated tells that a write did not follow what is stored.
func outdated(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch)
}

// queue puts an order on the work queue.
func (s *store) queue(ctx context.Context, id string) error {
	return s.publish(ctx, keyspace.OrderOpenedSubject, &orderv1.OrderOpened{OrderId: id}, "")
}

// payLater puts an order whose seats are held on the queue of payments.
func (s *store) payLater(ctx context.Context, id, card string) error {
	return s.publish(ctx, keyspace.OrderHeldSubject, &orderv1.OrderHeld{OrderId: id, CardToken: card}, "")
}

// announce puts a confirmed order into the sales, once in the dedup window.
func (s *store) announce(ctx context.Context, o *orderv1.Order) error {
	return s.publish(ctx, keyspace.OrderPaidSubject, sale(o), o.GetOrderId())
}

// announceAgain is announce for a sale that most likely was announced by
// another call, whose trace is in header. It makes no span: seconds after the
// checkout ended, one would only stretch its trace.
func (s *store) announceAgain(ctx context.Context, o *orderv1.Order, header nats.Header) error {
	msg, err := message(keyspace.OrderPaidSubject, sale(o), o.GetOrderId())
	if err != nil {
		return err
	}
	ctx = telemetry.Extract(ctx, header)
	telemetry.Inject(ctx, msg.Header)
	return s.send(ctx, msg)
}

func sale(o *orderv1.Order) *orderv1.OrderPaid {
	return &orderv1.OrderPaid{
		OrderId: o.GetOrderId(), PersonId: o.GetPersonId(), ShowId: o.GetShowId(), SeatIds: o.GetSeatIds(),
		AmountCents: o.GetAmountCents(), ConfirmedAt: o.GetUpdatedAt(),
	}
}

func message(subject string, body proto.Message, id string) (*nats.Msg, error) {
	data, err := proto.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	if id != "" {
		msg.Header.Set(nats.MsgIdHdr, id)
	}
	return msg, nil
}

func (s *store) publish(ctx context.Context, subject string, body proto.Message, id string) error {
	msg, err := message(subject, body, id)
	if err != nil {
		return err
	}
	return s.messaging.Publish(ctx, subject, msg.Header, func(ctx context.Context) error { return s.send(ctx, msg) })
}

func (s *store) send(ctx context.Context, msg *nats.Msg) error {
	if _, err := s.bucket(ctx); err != nil { // creates the streams where they are missing
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	if _, err := s.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0)); err != nil {
		return s.failed(fmt.Errorf("publish %s: %w", msg.Subject, err))
	}
	return nil
}

// await returns the order as soon as settled holds of it, or the latest that
// was seen when ctx ends.
func (s *store) await(ctx context.Context, id string, settled func(*orderv1.Order) bool) (record, error) {
	orders, err := s.bucket(ctx)
	if err != nil {
		return record{}, err
	}
	var rec record
	watcher, err := orders.Watch(ctx, id)
	if err != nil {
		if ctx.Err() != nil {
			return rec, nil
		}
		return rec, s.failed(err)
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return rec, nil
		case entry, open := <-watcher.Updates():
			if !open {
				return rec, nil
			}
			if entry == nil { // everything that was there was seen
				continue
			}
			if rec, err = parse(entry); err != nil || settled(rec.Order) {
				return rec, err
			}
		}
	}
}

// pause waits for d and tells whether it did; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

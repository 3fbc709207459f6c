package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/telemetry"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

func TestFateTable(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		readable   bool
		err        error
		deliveries uint64
		want       fate
	}{
		{true, nil, 1, fateAck},
		{true, nil, 1000, fateAck},
		{true, failed, 1, fateAgain},
		{true, failed, 1000, fateAgain}, // a store that is away is not the sale's fault
		{false, failed, 1, fateAgain},
		{false, failed, poisonDeliveries - 1, fateAgain},
		{false, failed, poisonDeliveries, fateTerminate},
	} {
		got, wait := fateOf(c.readable, c.err, c.deliveries)
		if got != c.want || (got == fateAgain) != (wait > 0) || wait > 5*time.Second {
			t.Errorf("readable %v, err %v, delivery %d: %v after %v, want %v", c.readable, c.err, c.deliveries, got, wait, c.want)
		}
	}
}

func TestGetTicket(t *testing.T) {
	ns := broker(t)
	r := newReplica(t, ns, true)
	ask := func(person string) (*ticketingv1.Ticket, *problem.Problem) {
		resp, err := r.GetTicket(t.Context(), &ticketingv1.GetTicketRequest{OrderId: "o-1", PersonId: person})
		return resp.GetTicket(), problem.From(err)
	}
	if _, p := ask("ada"); p == nil || p.Code != codes.NotFound || p.Reason != reasonTicketPending || !p.Retryable || p.RetryAfter != 50*time.Millisecond {
		t.Errorf("before the sale: %+v", p)
	}
	announce(t, r, "o-1", nil)
	eventually(t, "the ticket is issued", func() bool { _, p := ask("ada"); return p == nil })
	ticket, _ := ask("ada")
	if ticket.GetOrderId() != "o-1" || ticket.GetPersonId() != "ada" || ticket.GetShowId() != "opening-night" || len(ticket.GetSeatIds()) != 2 || len(ticket.GetTicketId()) < 20 {
		t.Errorf("ticket: %v", ticket)
	}
	if _, p := ask("eve"); p == nil || p.Code != codes.NotFound || p.Reason != reasonOrderUnknown || p.Retryable {
		t.Errorf("another person: %+v", p)
	}
}

// A sale takes its turn in the modelled capacity; one that gets no turn waits in
// the queue and is not lost. What cannot be read takes no turn.
func TestTicketsPassTheModelledCapacity(t *testing.T) {
	r := newReplica(t, broker(t), true)
	r.full.Store(true)
	announce(t, r, "o-1", nil)
	eventually(t, "the sale was refused a turn twice", func() bool { return r.worked.Load() >= 2 })
	if _, err := r.GetTicket(t.Context(), &ticketingv1.GetTicketRequest{OrderId: "o-1", PersonId: "ada"}); problem.Reason(err) != reasonTicketPending {
		t.Errorf("without a turn: %v, want %s", err, reasonTicketPending)
	}
	r.full.Store(false)
	eventually(t, "the ticket is issued", func() bool {
		_, err := r.GetTicket(t.Context(), &ticketingv1.GetTicketRequest{OrderId: "o-1", PersonId: "ada"})
		return err == nil
	})
	eventually(t, "the sale is settled", func() bool { return settled(t, r) })
	turns := r.worked.Load()
	publish(t, r, []byte("no sale"), nil)
	eventually(t, "the poison is given up", func() bool { return testutil.ToFloat64(r.poison) == 1 })
	if got := r.worked.Load(); got != turns {
		t.Errorf("a message that cannot be read took %d turns", got-turns)
	}
}

// Every sale is announced three times to two replicas, and some deliveries are
// taken and never answered: each order still has one ticket, written once.
func TestExactlyOnce(t *testing.T) {
	ns := broker(t)
	first := newReplica(t, ns, false)
	consumer, err := first.consumer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const orders = 60
	for range 3 {
		for i := range orders {
			announce(t, first, fmt.Sprint("o-", i), nil)
		}
	}
	// Replicas that die with what they hold: one batch before any work, one
	// after its ticket was written.
	if _, err := consumer.FetchNoWait(20); err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(20, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for msg := range batch.Messages() {
		sale, err := readSale(msg.Data())
		if err != nil {
			t.Fatal(err)
		}
		if err := first.issueTicket(t.Context(), sale); err != nil {
			t.Fatal(err)
		}
	}
	before := map[string]string{}
	tickets := func(i int) *ticketingv1.Ticket {
		ticket, err := first.server.store.get(t.Context(), fmt.Sprint("o-", i))
		if err != nil {
			t.Fatal(err)
		}
		return ticket
	}
	for i := range orders {
		if ticket := tickets(i); ticket != nil {
			before[ticket.GetOrderId()] = ticket.GetTicketId()
		}
	}
	if len(before) == 0 {
		t.Fatal("nothing was issued before the crash")
	}
	second, third := newReplica(t, ns, true), newReplica(t, ns, true)
	eventually(t, "all sales are settled", func() bool { return settled(t, first) })
	counts := revisions(t, first)
	if len(counts) != orders {
		t.Errorf("%d tickets for %d orders", len(counts), orders)
	}
	for id, n := range counts {
		if n != 1 {
			t.Errorf("%s has %d tickets", id, n)
		}
	}
	for id, ticket := range before {
		if got, err := first.server.store.get(t.Context(), id); err != nil || got.GetTicketId() != ticket {
			t.Errorf("the ticket of %s was %s and is %s", id, ticket, got.GetTicketId())
		}
	}
	issued := 0.0
	for _, r := range []*replica{first, second, third} {
		issued += testutil.ToFloat64(r.issued)
	}
	if issued != orders {
		t.Errorf("%v tickets counted, %d issued", issued, orders)
	}
	eventually(t, "the backlog metric is 0", func() bool { return testutil.ToFloat64(second.backlog) == 0 })
}

// A message that cannot be read is given up after some deliveries, told of and
// counted; those behind it are not held up.
func TestPoison(t *testing.T) {
	ns := broker(t)
	r := newReplica(t, ns, true)
	publish(t, r, []byte("\xff not an OrderPaid"), nil)
	publish(t, r, nil, nil) // readable, but it names no order
	announce(t, r, "o-1", nil)
	eventually(t, "the sale behind is served", func() bool {
		ticket, err := r.server.store.get(t.Context(), "o-1")
		return err == nil && ticket != nil
	})
	eventually(t, "the poison is given up", func() bool { return testutil.ToFloat64(r.poison) == 2 && settled(t, r) })
}

// The trace that announced the sale goes on in ticketing.
func TestTraceContinues(t *testing.T) {
	ns := broker(t)
	r := newReplica(t, ns, true)
	traces := sdktrace.NewTracerProvider()
	ctx, span := traces.Tracer("producer").Start(t.Context(), "publish")
	header := nats.Header{}
	telemetry.Inject(ctx, header)
	span.End()
	announce(t, r, "o-1", header)
	eventually(t, "the span is recorded", func() bool { return len(r.spans.GetSpans()) > 0 })
	got := r.spans.GetSpans()[0]
	if got.SpanContext.TraceID() != span.SpanContext().TraceID() || got.Parent.SpanID() != span.SpanContext().SpanID() {
		t.Errorf("consumer span %v under %v, want it under %v", got.SpanContext, got.Parent, span.SpanContext())
	}
}

// A replica that is told to stop finishes what it holds: nothing comes again.
func TestDrainFinishesWhatItHolds(t *testing.T) {
	ns := broker(t)
	r := newReplica(t, ns, true)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 25 {
				announce(t, r, fmt.Sprintf("o-%d-%d", w, i), nil)
			}
		})
	}
	wg.Wait()
	eventually(t, "work has begun", func() bool { return testutil.ToFloat64(r.issued) > 0 })
	r.drain()
	c, err := r.server.store.js.Consumer(t.Context(), keyspace.SalesStream, keyspace.TicketingConsumer)
	if err != nil {
		t.Fatal(err)
	}
	// What the broker sent in the moment in which the replica stopped asking was
	// not received: it stays with the broker, unanswered, for the next replica.
	eventually(t, "all that was worked on is acknowledged", func() bool {
		info, err := c.Info(t.Context())
		return err == nil && float64(info.Delivered.Consumer)-float64(info.NumAckPending) == testutil.ToFloat64(r.issued)
	})
	if n := testutil.ToFloat64(r.again); n != 0 {
		t.Errorf("%v sales came twice", n)
	}
	next := newReplica(t, ns, true)
	eventually(t, "the next replica does the rest", func() bool { return settled(t, next) })
	if n := testutil.ToFloat64(next.again); n != 0 {
		t.Errorf("%v sales that had their ticket came again after the drain", n)
	}
	if counts := revisions(t, next); len(counts) != 100 {
		t.Errorf("%d tickets for 100 orders", len(counts))
	}
}

// What is asked to be kept three times is not kept once: a lone server refuses, and
// the service waits for the others.
func TestALoneServerCannotKeepThree(t *testing.T) {
	r := newReplica(t, broker(t), false)
	three, err := newStore(r.server.store.nc, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := three.ensure(t.Context()); problem.Reason(err) != problem.DependencyAway || three.known() != nil {
		t.Errorf("three replicas on one server: %v", err)
	}
	if err := r.server.store.ensure(t.Context()); err != nil {
		t.Errorf("one replica on one server: %v", err)
	}
}

func TestNATSAway(t *testing.T) {
	ns := broker(t)
	r := newReplica(t, ns, false)
	ns.Shutdown()
	ns.WaitForShutdown()
	begin := time.Now()
	_, err := r.GetTicket(context.Background(), &ticketingv1.GetTicketRequest{OrderId: "o-1", PersonId: "ada"})
	if p := problem.From(err); p == nil || p.Code != codes.Unavailable || p.Reason != problem.DependencyAway || !p.Retryable {
		t.Errorf("without NATS: %v", err)
	}
	if took := time.Since(begin); took > 2*natsTimeout {
		t.Errorf("the refusal took %v", took)
	}
}

package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/telemetry"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a real NATS server with JetStream on file.
func broker(t *testing.T) *natsd.Server {
	t.Helper()
	s, err := natsd.NewServer(&natsd.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not come up")
	}
	return s
}

// replica is one ticketing service, short of boot. Its spans are recorded.
type replica struct {
	*office
	*server
	spans *tracetest.InMemoryExporter
	// worked counts how often modelled capacity was passed; full makes it refuse.
	worked atomic.Int64
	full   atomic.Bool
	stop   context.CancelFunc
	done   sync.WaitGroup
}

func newReplica(t *testing.T, ns *natsd.Server, working bool) *replica {
	t.Helper()
	nc, err := nats.Connect(ns.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	r := &replica{spans: tracetest.NewInMemoryExporter()}
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans))
	messaging, err := telemetry.NewMessaging(traces.Tracer("test"), reg)
	if err != nil {
		t.Fatal(err)
	}
	st, err := newStore(nc, 1)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is kept in NATS is there", func() bool { return st.ensure(t.Context()) == nil }) // as boot's Dependency does
	r.server = &server{store: st}
	r.office, err = newOffice(st, messaging, &config{Workers: 4, AckWait: 300 * time.Millisecond},
		slog.New(slog.NewTextHandler(t.Output(), nil)), reg, func(context.Context) error {
			r.worked.Add(1)
			if r.full.Load() {
				return capacity.ErrTooLate
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	if working {
		for _, f := range []func(context.Context) error{r.run, r.watchBacklog} {
			r.done.Go(func() {
				for ctx.Err() == nil { // as boot does
					_ = f(ctx)
				}
			})
		}
	}
	t.Cleanup(func() { r.drain(); nc.Close() })
	return r
}

// drain ends the replica as boot does: workers first. May be called twice.
func (r *replica) drain() {
	r.stop()
	r.done.Wait()
}

// announce publishes a sale as the order service does, without dedup.
func announce(t *testing.T, r *replica, id string, header nats.Header) {
	t.Helper()
	data, err := proto.Marshal(&orderv1.OrderPaid{OrderId: id, PersonId: "ada", ShowId: "opening-night", SeatIds: []string{"A-1", "A-2"}, AmountCents: 4500})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, r, data, header)
}

func publish(t *testing.T, r *replica, data []byte, header nats.Header) {
	t.Helper()
	if _, err := r.server.store.js.PublishMsg(t.Context(), &nats.Msg{Subject: keyspace.OrderPaidSubject, Data: data, Header: header}); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

// settled tells whether every sale was acknowledged or given up.
func settled(t *testing.T, r *replica) bool {
	c, err := r.server.store.js.Consumer(t.Context(), keyspace.SalesStream, keyspace.TicketingConsumer)
	if err != nil {
		return false
	}
	info := c.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0
}

// revisions counts how often the ticket of each order was written.
func revisions(t *testing.T, r *replica) map[string]int {
	t.Helper()
	stream, err := r.server.store.js.Stream(t.Context(), "KV_"+keyspace.TicketsBucket)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	if last, n := info.State.LastSeq, info.State.Msgs; last != n {
		t.Errorf("%d writes for %d tickets: some were written more than once", last, n)
	}
	counts := map[string]int{}
	for subject, n := range info.State.Subjects {
		counts[subject[len("$KV."+keyspace.TicketsBucket+"."):]] = int(n)
	}
	return counts
}

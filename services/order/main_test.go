package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"google.golang.org/protobuf/proto"
	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/telemetry"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a real NATS server with JetStream on file.
func broker(t *testing.T, opts natsd.Options) *natsd.Server {
	t.Helper()
	opts.JetStream, opts.NoLog, opts.NoSigs = true, true, true
	if opts.StoreDir == "" {
		opts.StoreDir = t.TempDir()
	}
	if opts.Port == 0 {
		opts.Port = -1
	}
	opts.Host = "127.0.0.1"
	s, err := natsd.NewServer(&opts)
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

// world is inventory and payment together, with their semantics, behind real
// gRPC. before and after run around a step's effect; an error of before keeps
// it from happening, one of after loses its answer.
type world struct {
	inventoryv1.UnimplementedInventoryServiceServer
	paymentv1.UnimplementedPaymentServiceServer
	addr string

	before, after func(step, id string) error

	mu       sync.Mutex
	holds    map[string]string // order → held, confirmed, released, expired
	payments map[string]string // order → captured, declined, voided, refunded
	captures map[string]int
	calls    map[string]int // step → how often it took effect or was answered
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{holds: map[string]string{}, payments: map[string]string{}, captures: map[string]int{}, calls: map[string]int{}}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = lis.Addr().String()
	srv := grpc.NewServer()
	inventoryv1.RegisterInventoryServiceServer(srv, w)
	paymentv1.RegisterPaymentServiceServer(srv, w)
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	return w
}

func (w *world) effect(step, id string, f func() error) error {
	if w.before != nil {
		if err := w.before(step, id); err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.calls[step]++
	err := f()
	w.mu.Unlock()
	if w.after != nil {
		if lost := w.after(step, id); lost != nil {
			return lost
		}
	}
	return err
}

func (w *world) count(step string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[step]
}

func refuse(reason string) error {
	return problem.New(codes.FailedPrecondition, reason, "refused by the test's world")
}

func (w *world) Hold(_ context.Context, req *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
	err := w.effect("hold", req.GetHoldId(), func() error {
		switch {
		case req.GetShowId() == "no-show":
			return problem.New(codes.NotFound, problem.ShowUnknown, "no such show")
		case req.GetSeatIds()[0] == "Z-1":
			return refuse(reasonSeatTaken)
		case w.holds[req.GetHoldId()] == "released":
			return refuse("HOLD_RELEASED")
		}
		if w.holds[req.GetHoldId()] == "" {
			w.holds[req.GetHoldId()] = "held"
		}
		return nil
	})
	return &inventoryv1.HoldResponse{AmountCents: 4500}, err
}

func (w *world) Confirm(_ context.Context, req *inventoryv1.ConfirmRequest) (*inventoryv1.ConfirmResponse, error) {
	err := w.effect("confirm", req.GetHoldId(), func() error {
		switch w.holds[req.GetHoldId()] {
		case "held", "confirmed":
			w.holds[req.GetHoldId()] = "confirmed"
			return nil
		case "expired":
			return refuse(reasonHoldExpired)
		}
		return refuse("HOLD_RELEASED")
	})
	return &inventoryv1.ConfirmResponse{}, err
}

func (w *world) Release(_ context.Context, req *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
	err := w.effect("release", req.GetHoldId(), func() error {
		w.holds[req.GetHoldId()] = "released"
		return nil
	})
	return &inventoryv1.ReleaseResponse{}, err
}

func (w *world) Charge(_ context.Context, req *paymentv1.ChargeRequest) (*paymentv1.ChargeResponse, error) {
	err := w.effect("charge", req.GetPaymentId(), func() error {
		switch w.payments[req.GetPaymentId()] {
		case "voided", "refunded":
			return refuse("PAYMENT_CANCELLED")
		case "":
			if req.GetCardToken() == "tok_declined" {
				w.payments[req.GetPaymentId()] = "declined"
				return refuse(reasonCardDeclined)
			}
			w.payments[req.GetPaymentId()] = "captured"
			w.captures[req.GetPaymentId()]++
		}
		return nil
	})
	return &paymentv1.ChargeResponse{}, err
}

func (w *world) Cancel(_ context.Context, req *paymentv1.CancelRequest) (*paymentv1.CancelResponse, error) {
	err := w.effect("cancel", req.GetPaymentId(), func() error {
		switch w.payments[req.GetPaymentId()] {
		case "captured":
			w.payments[req.GetPaymentId()] = "refunded"
		case "":
			w.payments[req.GetPaymentId()] = "voided"
		}
		return nil
	})
	return &paymentv1.CancelResponse{}, err
}

// replica is one order service, short of boot.
type replica struct {
	*server
	conn *grpc.ClientConn
	log  *logBuffer
	stop context.CancelFunc
	done sync.WaitGroup
}

type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// newReplica connects a replica; with working it also undoes and recovers orders.
func newReplica(t *testing.T, ns *natsd.Server, w *world, lease time.Duration, working bool) *replica {
	t.Helper()
	nc, err := nats.Connect(ns.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(w.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	messaging, err := telemetry.NewMessaging(noop.NewTracerProvider().Tracer(""), reg)
	if err != nil {
		t.Fatal(err)
	}
	down := downstreams{inventoryv1.NewInventoryServiceClient(conn), paymentv1.NewPaymentServiceClient(conn), nc, messaging}
	st, err := newStore(nc, messaging, "order-test", 1)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is kept in NATS is there", func() bool { return st.ensure(t.Context()) == nil }) // as boot's Dependency does
	r := &replica{conn: conn, log: &logBuffer{}}
	sg, err := newSaga(st, down, lease, time.Now, slog.New(slog.NewTextHandler(io.MultiWriter(r.log, t.Output()), nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	r.server = &server{store: st, saga: sg, payment: func() string { return payAtOnce }}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	if working {
		r.done.Go(func() { _ = sg.undoOrders(ctx) }) // never fails
		r.done.Go(func() {
			for ctx.Err() == nil { // as boot does
				if err := sg.recoverOrders(ctx); err != nil && ctx.Err() == nil {
					pause(ctx, 20*time.Millisecond)
				}
			}
		})
	}
	t.Cleanup(func() { r.kill(); r.done.Wait() })
	return r
}

// kill severs the replica from the world and from NATS at once: whatever it
// still believes, nobody hears of it. May be called twice.
func (r *replica) kill() {
	r.store.nc.Close()
	r.conn.Close()
	r.stop()
}

func request(key string) *orderv1.CheckoutRequest {
	return &orderv1.CheckoutRequest{IdempotencyKey: key, PersonId: "ada", ShowId: "opening-night", SeatIds: []string{"A-1", "A-2"}, CardToken: "tok_visa"}
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 s: %s", what)
		}
		if !pause(t.Context(), 5*time.Millisecond) {
			t.Fatal("the test's time is over")
		}
	}
}

// stored reads an order past all replicas.
func stored(t *testing.T, ns *natsd.Server, id string) *orderv1.Order {
	t.Helper()
	var rec record
	outside(t, ns, func(js jetstream.JetStream) {
		kv, err := js.KeyValue(t.Context(), keyspace.OrdersBucket)
		if err != nil {
			t.Fatal(err)
		}
		if entry, err := kv.Get(t.Context(), id); err == nil {
			if rec, err = parse(entry); err != nil {
				t.Fatal(err)
			}
		}
	})
	return rec.Order
}

// reaches waits until an order is in a state.
func reaches(t *testing.T, ns *natsd.Server, id string, want orderv1.OrderState) {
	t.Helper()
	eventually(t, "the order is "+want.String(), func() bool { return stored(t, ns, id).GetState() == want })
}

func outside(t *testing.T, ns *natsd.Server, f func(jetstream.JetStream)) {
	t.Helper()
	nc, err := nats.Connect(ns.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	f(js)
}

// queued is how many messages are on the work queue.
func queued(t *testing.T, ns *natsd.Server) (n uint64) {
	t.Helper()
	outside(t, ns, func(js jetstream.JetStream) {
		if s, err := js.Stream(t.Context(), keyspace.CheckoutsStream); err == nil {
			n = s.CachedInfo().State.Msgs
		}
	})
	return n
}

// sales counts announcements by order.
func sales(t *testing.T, ns *natsd.Server) map[string]int {
	t.Helper()
	found := map[string]int{}
	outside(t, ns, func(js jetstream.JetStream) {
		s, err := js.Stream(t.Context(), keyspace.SalesStream)
		if err != nil {
			t.Fatal(err)
		}
		for seq := range s.CachedInfo().State.LastSeq {
			msg, err := s.GetMsg(t.Context(), seq+1)
			if err != nil {
				t.Fatal(err)
			}
			paid := &orderv1.OrderPaid{}
			if err := proto.Unmarshal(msg.Data, paid); err != nil {
				t.Fatal(err)
			}
			found[paid.GetOrderId()]++
		}
	})
	return found
}

// consistent checks the invariants of one final order, and returns its state.
func consistent(t *testing.T, ns *natsd.Server, w *world, id string) orderv1.OrderState {
	t.Helper()
	o, announced := stored(t, ns, id), sales(t, ns)[id]
	w.mu.Lock()
	hold, payment, captures := w.holds[id], w.payments[id], w.captures[id]
	w.mu.Unlock()
	got := fmt.Sprintf("order %v (%s), hold %q, payment %q, %d captures, %d announcements", o.GetState(), o.GetReason(), hold, payment, captures, announced)
	switch o.GetState() {
	case confirmed:
		if hold != "confirmed" || payment != "captured" || captures != 1 || announced != 1 {
			t.Errorf("invariant broken: %s", got)
		}
	case cancelled:
		if hold == "held" || hold == "confirmed" || payment == "captured" || captures > 1 || announced != 0 || o.GetReason() == "" {
			t.Errorf("invariant broken: %s", got)
		}
	default:
		t.Errorf("not final: %s", got)
	}
	return o.GetState()
}

func (r *replica) consumerInfo(t *testing.T) (*jetstream.ConsumerInfo, error) {
	c, err := r.store.js.Consumer(t.Context(), keyspace.CheckoutsStream, keyspace.RecoveryConsumer)
	if err != nil {
		return nil, err
	}
	return c.Info(t.Context())
}

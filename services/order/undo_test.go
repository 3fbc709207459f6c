package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/problem"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// unpaid makes charges in w come through and their answers get lost, so that
// there is something to refund.
func unpaid(w *world) {
	w.after = func(step, _ string) error {
		if step == "charge" {
			return problem.New(codes.Unavailable, problem.DependencyAway, "gone")
		}
		return nil
	}
}

// stuck makes refunds in w wait until the returned function is called, at the
// end of the test at the latest. entered counts those that wait or have waited.
func stuck(t *testing.T, w *world) (entered *atomic.Int64, goOn func()) {
	t.Helper()
	gate := make(chan struct{})
	goOn = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(goOn)
	entered = new(atomic.Int64)
	w.before = func(step, _ string) error {
		if step == "cancel" {
			entered.Add(1)
			<-gate
		}
		return nil
	}
	return entered, goOn
}

// refusedUnpaid checks out and wants the answer of an order whose payment is not
// known.
func refusedUnpaid(t *testing.T, checkout func(context.Context, *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error), key string) (id string) {
	t.Helper()
	_, err := checkout(t.Context(), request(key))
	p := problem.From(err)
	id = orderID("ada", key)
	if p == nil || p.Code != codes.Aborted || p.Reason != reasonPaymentUnresolved || p.Metadata["order_id"] != id || p.Retryable {
		t.Fatalf("answered %v, want %s of order %s", err, reasonPaymentUnresolved, id)
	}
	return id
}

func TestTheAnswerDoesNotWaitForTheUndo(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	unpaid(w)
	entered, goOn := stuck(t, w)
	r := newReplica(t, ns, w, slow, true)
	id := refusedUnpaid(t, r.Checkout, "key-00001")
	eventually(t, "the refund is asked for", func() bool { return entered.Load() == 1 })
	if s := stored(t, ns, id).GetState(); s != cancelling {
		t.Errorf("stored: %v, want %v", s, cancelling)
	}
	refusedUnpaid(t, r.Checkout, "key-00001") // a replay does not wait either
	seen, err := r.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: id, PersonId: "ada"})
	if err != nil || seen.GetOrder().GetState() != cancelling || seen.GetOrder().GetReason() != reasonPaymentUnresolved {
		t.Errorf("GetOrder: %v, %v", seen, err)
	}
	goOn()
	reaches(t, ns, id, cancelled)
	consistent(t, ns, w, id)
	if n := w.count("cancel"); n != 1 {
		t.Errorf("%d refunds, want 1", n)
	}
	refusedUnpaid(t, r.Checkout, "key-00001")
}

// An undo that fails is tried again by the recovery, and only by it.
func TestAnUndoThatFailsComesAgain(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	unpaid(w)
	var tried atomic.Int64
	w.before = func(step, _ string) error {
		if step == "cancel" && tried.Add(1) <= 2 {
			return problem.New(codes.Unavailable, problem.BreakerOpen, "stopped")
		}
		return nil
	}
	r := newReplica(t, ns, w, quick, true)
	ends(t, ns, w, refusedUnpaid(t, r.Checkout, "key-00001"), cancelled)
	if tried.Load() < 3 {
		t.Errorf("tried %d times, want two failures first", tried.Load())
	}
}

// Where a reservation fails the checkout goes on to its end in the same call,
// and still there is one undo.
func TestAReservationThatFailsIsUndoneOnce(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	w.after = func(step, _ string) error {
		if step == "hold" {
			return problem.New(codes.Unavailable, problem.DependencyAway, "gone")
		}
		return nil
	}
	r := newReplica(t, ns, w, slow, true)
	r.server.payment = func() string { return payQueued }
	_, err := r.Checkout(t.Context(), request("key-00001"))
	if p := problem.From(err); p == nil || p.Reason != reasonSeatsUnresolved {
		t.Fatalf("answered %v, want %s", err, reasonSeatsUnresolved)
	}
	id := orderID("ada", "key-00001")
	reaches(t, ns, id, cancelled)
	r.stop()
	r.done.Wait() // whatever was handed over is done
	if n := w.count("release"); n != 1 || len(r.saga.failed) != 0 {
		t.Errorf("%d releases and %d to come, want one", n, len(r.saga.failed))
	}
}

func TestACrashBetweenAnswerAndUndo(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	unpaid(w)
	victim := newReplica(t, ns, w, quick, false)
	id := refusedUnpaid(t, victim.Checkout, "key-00001")
	victim.kill()
	if n := w.count("cancel") + w.count("release"); n != 0 {
		t.Fatalf("%d steps of the undo were done before the crash", n)
	}
	newReplica(t, ns, w, quick, true)
	ends(t, ns, w, id, cancelled)
}

// However many fail at a time, all are answered, so many are undone at once and
// no more, and the recovery undoes those that found no room.
func TestUndosAreBounded(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	unpaid(w)
	entered, goOn := stuck(t, w)
	r := newReplica(t, ns, w, slow, false)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r.done.Go(func() { _ = r.saga.undoOrders(ctx) })
	var failed []string
	for i := range 2*undos + 4 {
		failed = append(failed, refusedUnpaid(t, r.Checkout, fmt.Sprintf("key-%05d", i)))
	}
	eventually(t, "as many are undone at once as may be", func() bool { return entered.Load() == undos })
	goOn()
	stop()
	late := newReplica(t, ns, w, quick, false)
	late.saga.now = func() time.Time { return time.Now().Add(2 * slow) } // their leases are over
	working, end := context.WithCancel(t.Context())
	defer end()
	late.done.Go(func() { _ = late.saga.recoverOrders(working) })
	for _, id := range failed {
		reaches(t, ns, id, cancelled)
		consistent(t, ns, w, id)
	}
}

// The end of a replica waits for the undo that is under way.
func TestDrainFinishesAnUndo(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	unpaid(w)
	entered, goOn := stuck(t, w)
	r := newReplica(t, ns, w, slow, true)
	id := refusedUnpaid(t, r.Checkout, "key-00001")
	eventually(t, "the refund is asked for", func() bool { return entered.Load() == 1 })
	r.stop()
	goOn()
	r.done.Wait()
	if s := consistent(t, ns, w, id); s != cancelled {
		t.Errorf("stored after the drain: %v", s)
	}
}

// The service ends although an undo cannot proceed, and the next one does it.
func TestDrainLeavesAnUndoThatHangs(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	unpaid(w)
	entered, goOn := stuck(t, w)
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := boot.Run(ctx, spec(), []string{
			"SPILLWAY_GRPC_ADDR=" + addr, "SPILLWAY_ADMIN_ADDR=127.0.0.1:0", "SPILLWAY_NATS_URL=" + ns.ClientURL(),
			"SPILLWAY_INVENTORY_TARGET=" + w.addr, "SPILLWAY_PAYMENT_TARGET=" + w.addr,
			"SPILLWAY_CAPACITY_SERVICE_TIME=0s", "SPILLWAY_ORDER_LEASE=500ms",
		}, t.Output())
		if err != nil {
			t.Errorf("run: %v", err)
		}
	})
	defer wg.Wait()
	defer stop()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := orderv1.NewOrderServiceClient(conn)
	eventually(t, "the service works", func() bool {
		_, err := client.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: orderID("ada", "key-00001"), PersonId: "ada"}, grpc.WaitForReady(true))
		return problem.Reason(err) == reasonOrderUnknown
	})
	id := refusedUnpaid(t, func(ctx context.Context, req *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
		return client.Checkout(ctx, req)
	}, "key-00001")
	eventually(t, "the refund is asked for", func() bool { return entered.Load() > 0 })
	stop()
	wg.Wait()
	if s := stored(t, ns, id).GetState(); s != cancelling {
		t.Errorf("stored after the end: %v, want %v", s, cancelling)
	}
	goOn()
	newReplica(t, ns, w, quick, true)
	ends(t, ns, w, id, cancelled)
}

package main

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
)

// newQueueing is a replica that reserves, and takes payments off the queue only
// once paying is called.
func newQueueing(t *testing.T, ns *natsd.Server, w *world, working bool) (r *replica, paying func()) {
	t.Helper()
	r = newReplica(t, ns, w, quick, working)
	r.server.payment = func() string { return payQueued }
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	return r, func() {
		r.done.Go(func() {
			for ctx.Err() == nil && !r.store.nc.IsClosed() { // as boot does
				if err := r.saga.payQueue(func(context.Context) error { return nil })(ctx); err != nil {
					pause(ctx, 20*time.Millisecond)
				}
			}
		})
	}
}

func TestAQueuedOrderIsReservedThenPaid(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r, paying := newQueueing(t, ns, w, true)
	for range 2 { // the second is a replay
		resp, err := r.Checkout(t.Context(), request("key-00001"))
		if err != nil || resp.GetOrder().GetState() != held || resp.GetOrder().GetAmountCents() == 0 {
			t.Fatalf("answered %v, %v; want a held order with its price", resp, err)
		}
	}
	if n := w.count("charge"); n != 0 {
		t.Fatalf("%d charges before anybody takes them off the queue", n)
	}
	paying()
	id := orderID("ada", "key-00001")
	ends(t, ns, w, id, confirmed)
	if w.count("hold") != 1 || w.count("charge") != 1 || sales(t, ns)[id] != 1 {
		t.Errorf("%d holds, %d charges, sales %v; want one of each", w.count("hold"), w.count("charge"), sales(t, ns))
	}
	resp, err := r.Checkout(t.Context(), request("key-00001"))
	if err != nil || resp.GetOrder().GetState() != confirmed {
		t.Errorf("a replay after the end: %v, %v", resp, err)
	}
}

func TestAQueuedChargeWaitsForABankThatIsFull(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	var refused atomic.Int64
	w.before = func(step, _ string) error {
		if step == "charge" && refused.Add(1) <= 3 {
			return problem.New(codes.ResourceExhausted, reasonQuotaExceeded, "full").Retry(0)
		}
		return nil
	}
	r, paying := newQueueing(t, ns, w, true)
	paying()
	if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
		t.Fatal(err)
	}
	ends(t, ns, w, orderID("ada", "key-00001"), confirmed)
	if refused.Load() < 4 {
		t.Errorf("asked the bank %d times, want three refusals first", refused.Load())
	}
}

func TestARefusedCardEndsAQueuedOrder(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	w.before = func(step, _ string) error {
		if step == "charge" {
			return refuse(reasonCardDeclined)
		}
		return nil
	}
	r, paying := newQueueing(t, ns, w, true)
	paying()
	if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
		t.Fatal(err)
	}
	ends(t, ns, w, orderID("ada", "key-00001"), cancelled)
}

func TestAnotherReplicaPaysWhatOneLeftBehind(t *testing.T) {
	for _, after := range []bool{false, true} {
		ns, w := broker(t, natsd.Options{}), newWorld(t)
		victim, paying := newQueueing(t, ns, w, false)
		crash := crashOnce(victim, "charge")
		if after {
			w.after = crash
		} else {
			w.before = crash
		}
		if _, err := victim.Checkout(t.Context(), request("key-00001")); err != nil {
			t.Fatal(err)
		}
		paying()
		eventually(t, "the replica is gone", victim.store.nc.IsClosed)
		_, paying = newQueueing(t, ns, w, true)
		paying()
		ends(t, ns, w, orderID("ada", "key-00001"), confirmed)
	}
}

func TestWhatNobodyPaysInTimeIsUndone(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r, _ := newQueueing(t, ns, w, false)
	if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
		t.Fatal(err)
	}
	late, paying := newQueueing(t, ns, w, false)
	late.saga.now = func() time.Time { return time.Now().Add(payPatience + time.Second) }
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	late.done.Go(func() {
		if err := late.saga.recoverOrders(ctx); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	paying()
	ends(t, ns, w, orderID("ada", "key-00001"), cancelled)
	if n := w.count("charge"); n != 0 {
		t.Errorf("%d charges after its time", n)
	}
	stop()
}

func TestWithoutItsQueueAnOrderIsPaidAtOnce(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r, _ := newQueueing(t, ns, w, true)
	outside(t, ns, func(js jetstream.JetStream) {
		if err := js.DeleteStream(t.Context(), keyspace.PaymentsStream); err != nil {
			t.Fatal(err)
		}
	})
	resp, err := r.Checkout(t.Context(), request("key-00001"))
	if err != nil || resp.GetOrder().GetState() != confirmed {
		t.Fatalf("%v, %v; want a confirmed order", resp, err)
	}
}

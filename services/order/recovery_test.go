package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// quick is a lease that is soon over.
const quick = 250 * time.Millisecond

var errCrashed = errors.New("the replica is gone")

// A replica is killed before and after the effect of every step. Another one,
// which shares nothing with it but the stores, brings the order to its end.
func TestCrashAtEveryStep(t *testing.T) {
	for _, c := range []struct {
		step  string
		after bool
		want  orderv1.OrderState
	}{
		{"hold", false, cancelled},
		{"hold", true, cancelled},
		{"charge", false, cancelled},
		{"charge", true, cancelled}, // and refunded
		{"confirm", false, confirmed},
		{"confirm", true, confirmed},
	} {
		t.Run(fmt.Sprintf("%s after=%v", c.step, c.after), func(t *testing.T) {
			ns, w := broker(t, natsd.Options{}), newWorld(t)
			victim := newReplica(t, ns, w, quick, false)
			crash := crashOnce(victim, c.step)
			if c.after {
				w.after = crash
			} else {
				w.before = crash
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := victim.Checkout(ctx, request("key-00001")); err == nil {
				t.Fatal("a replica that is gone answered")
			}
			newReplica(t, ns, w, quick, true)
			ends(t, ns, w, orderID("ada", "key-00001"), c.want)
		})
	}
}

// crashOnce is a hook that kills a replica when it comes to a step.
func crashOnce(victim *replica, at string) func(step, id string) error {
	var once sync.Once
	return func(step, _ string) (err error) {
		if step == at {
			once.Do(func() {
				victim.kill()
				err = errCrashed
			})
		}
		return err
	}
}

// ends waits until an order is final and off the queue, and checks it.
func ends(t *testing.T, ns *natsd.Server, w *world, id string, want orderv1.OrderState) {
	t.Helper()
	eventually(t, "the order is off the queue", func() bool { return queued(t, ns) == 0 })
	if s := consistent(t, ns, w, id); s != want {
		t.Errorf("ended %v, want %v", s, want)
	}
}

// The same, when the one that cleans up is killed as well, at every step of the
// clean-up.
func TestCrashOfTheRecovery(t *testing.T) {
	for _, c := range []struct {
		step  string
		after bool
	}{{"cancel", false}, {"cancel", true}, {"release", false}, {"release", true}} {
		t.Run(fmt.Sprintf("%s after=%v", c.step, c.after), func(t *testing.T) {
			ns, w := broker(t, natsd.Options{}), newWorld(t)
			victim := newReplica(t, ns, w, quick, false)
			cleaner := newReplica(t, ns, w, quick, false)
			first, second := crashOnce(victim, "charge"), crashOnce(cleaner, c.step)
			w.after = func(step, id string) error {
				if err := first(step, id); err != nil || !c.after {
					return err
				}
				return second(step, id)
			}
			if !c.after {
				w.before = second
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := victim.Checkout(ctx, request("key-00001")); err == nil {
				t.Fatal("a replica that is gone answered")
			}
			var done sync.WaitGroup
			work, stop := context.WithCancel(t.Context())
			done.Go(func() {
				for work.Err() == nil && !cleaner.store.nc.IsClosed() {
					_ = cleaner.saga.recoverOrders(work) // ends when it is killed
				}
			})
			eventually(t, "the cleaner is killed", cleaner.store.nc.IsClosed)
			stop()
			done.Wait()
			newReplica(t, ns, w, quick, true)
			ends(t, ns, w, orderID("ada", "key-00001"), cancelled)
		})
	}
}

// Orders left in every state, with and without their effects, as a crash
// between any two lines leaves them.
func TestOrdersLeftBehind(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r := newReplica(t, ns, w, quick, false)
	want := map[string]orderv1.OrderState{}
	leave := func(state orderv1.OrderState, hold, payment string, ends orderv1.OrderState) {
		id := orderID("ada", fmt.Sprint("left-", len(want)))
		want[id] = ends
		o := &orderv1.Order{OrderId: id, PersonId: "ada", ShowId: "opening-night", SeatIds: []string{"A-1"}, State: state,
			LeaseOwner: "gone", LeaseExpiresAt: timestamppb.New(time.Now().Add(-time.Second))}
		if state != pending {
			o.AmountCents = 4500
		}
		if state == cancelling || state == cancelled {
			o.Reason = reasonTimedOut
		}
		w.holds[id], w.payments[id] = hold, payment
		if payment == "captured" || payment == "refunded" {
			w.captures[id] = 1
		}
		if err := r.store.queue(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.put(t.Context(), record{}, o); err != nil {
			t.Fatal(err)
		}
	}
	leave(pending, "", "", cancelled)
	leave(pending, "held", "", cancelled)
	leave(held, "held", "", cancelled)
	leave(held, "held", "captured", cancelled)
	leave(held, "held", "declined", cancelled)
	leave(held, "expired", "captured", cancelled)
	leave(paid, "held", "captured", confirmed)
	leave(paid, "confirmed", "captured", confirmed)
	leave(paid, "expired", "captured", cancelled)
	leave(confirmed, "confirmed", "captured", confirmed) // not announced
	leave(cancelling, "held", "captured", cancelled)
	leave(cancelling, "released", "captured", cancelled)
	leave(cancelling, "held", "refunded", cancelled)
	leave(cancelled, "released", "refunded", cancelled)
	for range 2 { // two share the work
		newReplica(t, ns, w, quick, true)
	}
	eventually(t, "the queue is empty", func() bool { return queued(t, ns) == 0 })
	for id, state := range want {
		if got := consistent(t, ns, w, id); got != state {
			t.Errorf("%s ended %v, want %v", id, got, state)
		}
	}
}

// A replica that only stood still finds its order taken over: its next
// transition is refused, and what it had begun does no harm.
func TestReplicaThatStoodStill(t *testing.T) {
	for _, at := range []string{"hold", "charge", "confirm"} {
		t.Run(at, func(t *testing.T) {
			ns, w := broker(t, natsd.Options{}), newWorld(t)
			stuck, goOn := make(chan struct{}), make(chan struct{})
			var first atomic.Bool
			w.before = func(step, _ string) error {
				if step == at && first.CompareAndSwap(false, true) {
					close(stuck)
					<-goOn
				}
				return nil
			}
			frozen := newReplica(t, ns, w, slow, false)
			frozen.saga.now = func() time.Time { return time.Now().Add(-slow + quick) } // its lease is as short as the other's
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = frozen.Checkout(t.Context(), request("key-00001")) })
			<-stuck
			newReplica(t, ns, w, quick, true)
			id := orderID("ada", "key-00001")
			eventually(t, "the order is final", func() bool { s := stored(t, ns, id).GetState(); return s == confirmed || s == cancelled })
			close(goOn)
			wg.Wait()
			eventually(t, "the queue is empty", func() bool { return queued(t, ns) == 0 })
			consistent(t, ns, w, id)
		})
	}
}

// A message whose order was never written is dropped, but not before its
// writer has had time enough.
func TestMessageWithoutOrder(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r := newReplica(t, ns, w, quick, false)
	if err := r.store.queue(t.Context(), "o-never"); err != nil {
		t.Fatal(err)
	}
	early := newReplica(t, ns, w, quick, true)
	eventually(t, "the message was looked at", func() bool {
		info, err := early.consumerInfo(t)
		return err == nil && info.NumRedelivered > 0
	})
	if queued(t, ns) != 1 {
		t.Error("dropped at once")
	}
	early.kill()
	early.done.Wait()
	late := newReplica(t, ns, w, quick, false)
	late.saga.now = func() time.Time { return time.Now().Add(2 * orphanAge) }
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = late.saga.recoverOrders(ctx) })
	eventually(t, "the message is dropped", func() bool { return queued(t, ns) == 0 })
	cancel()
	wg.Wait()
}

// Finished orders leave the queue by themselves.
func TestQueueDrains(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r := newReplica(t, ns, w, time.Second, true)
	for i := range 20 {
		if _, err := r.Checkout(t.Context(), request(fmt.Sprintf("key-%05d", i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the queue is empty", func() bool { return queued(t, ns) == 0 })
	for id, n := range sales(t, ns) {
		if n != 1 {
			t.Errorf("%s announced %d times", id, n)
		}
	}
	if n := w.count("hold"); n != 20 {
		t.Errorf("%d holds", n)
	}
}

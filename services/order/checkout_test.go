package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	natsd "github.com/nats-io/nats-server/v2/server"

	"spillway.dev/platform/problem"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// slow is a lease that no test outlives.
const slow = 10 * time.Second

func TestCheckout(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r := newReplica(t, ns, w, slow, false)
	got, err := r.Checkout(t.Context(), request("key-00001"))
	if err != nil {
		t.Fatal(err)
	}
	o := got.GetOrder()
	if o.GetState() != confirmed || o.GetAmountCents() != 4500 || len(o.GetRequestHash()) > 0 || o.GetLeaseOwner() != "" || o.GetLeaseExpiresAt() != nil {
		t.Errorf("answer: %v", o)
	}
	if !regexp.MustCompile(`^o-[a-z2-7]{26}$`).MatchString(o.GetOrderId()) {
		t.Errorf("order id %q", o.GetOrderId())
	}
	if s := consistent(t, ns, w, o.GetOrderId()); s != confirmed {
		t.Errorf("stored: %v", s)
	}
	// The same again is the same answer, from another replica too, and nothing
	// is done twice.
	for _, r := range []*replica{r, newReplica(t, ns, w, slow, false)} {
		again, err := r.Checkout(t.Context(), request("key-00001"))
		if err != nil || !proto.Equal(again, got) {
			t.Errorf("replay: %v, %v; want %v", again, err, got)
		}
	}
	for _, step := range []string{"hold", "charge", "confirm"} {
		if n := w.count(step); n != 1 {
			t.Errorf("%s ran %d times", step, n)
		}
	}
	// The card's token is stored and logged nowhere.
	if rec, err := r.store.get(t.Context(), o.GetOrderId()); err != nil || strings.Contains(string(rec.raw), "tok_") {
		t.Errorf("record %s, %v", rec.raw, err)
	}
	if strings.Contains(r.log.text(), "tok_") {
		t.Error("a card's token is in the log")
	}
	seen, err := r.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: o.GetOrderId(), PersonId: "ada"})
	if err != nil || !proto.Equal(seen.GetOrder(), o) {
		t.Errorf("GetOrder: %v, %v", seen, err)
	}
	for _, req := range []*orderv1.GetOrderRequest{
		{OrderId: o.GetOrderId(), PersonId: "eve"},
		{OrderId: orderID("ada", "key-other"), PersonId: "ada"},
	} {
		_, err := r.GetOrder(t.Context(), req)
		if p := problem.From(err); p == nil || p.Code != codes.NotFound || p.Reason != reasonOrderUnknown {
			t.Errorf("GetOrder of %v: %v", req, err)
		}
	}
}

func TestAnotherBodyIsRefused(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	r := newReplica(t, ns, w, slow, false)
	if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*orderv1.CheckoutRequest){
		"show":  func(r *orderv1.CheckoutRequest) { r.ShowId = "matinee" },
		"seats": func(r *orderv1.CheckoutRequest) { r.SeatIds = []string{"A-1"} },
		"card":  func(r *orderv1.CheckoutRequest) { r.CardToken = "tok_other" },
	} {
		req := request("key-00001")
		change(req)
		_, err := r.Checkout(t.Context(), req)
		if p := problem.From(err); p == nil || p.Code != codes.FailedPrecondition || p.Reason != problem.IdempotencyKeyReused || p.Retryable {
			t.Errorf("another %s under the same key: %v", name, err)
		}
	}
	other := request("key-00001")
	other.PersonId = "bob" // another person's keys are another's
	if got, err := r.Checkout(t.Context(), other); err != nil || got.GetOrder().GetPersonId() != "bob" {
		t.Errorf("the same key of another person: %v, %v", got, err)
	}
}

// Every way a checkout can be refused: its status and reason, what it leaves
// behind, and the same again on a replay.
func TestRefusals(t *testing.T) {
	lost := problem.New(codes.Unavailable, problem.DependencyAway, "gone")
	for _, c := range []struct {
		name     string
		change   func(*orderv1.CheckoutRequest)
		fail     map[string]error // before the step's effect
		lose     map[string]error // after it
		code     codes.Code
		reason   string
		away     string // metadata "dependency"
		payment  string
		released int
	}{
		{name: "no such show", change: func(r *orderv1.CheckoutRequest) { r.ShowId = "no-show" }, code: codes.NotFound, reason: problem.ShowUnknown},
		{name: "seat taken", change: func(r *orderv1.CheckoutRequest) { r.SeatIds = []string{"Z-1"} }, code: codes.FailedPrecondition, reason: reasonSeatTaken},
		{name: "card declined", change: func(r *orderv1.CheckoutRequest) { r.CardToken = "tok_declined" }, code: codes.FailedPrecondition, reason: reasonCardDeclined, payment: "declined", released: 1},
		{name: "hold not answered", lose: map[string]error{"hold": lost}, code: codes.Aborted, reason: reasonSeatsUnresolved, away: "inventory", released: 1},
		{name: "inventory away at the hold", fail: map[string]error{"hold": lost}, code: codes.Aborted, reason: reasonSeatsUnresolved, away: "inventory", released: 1},
		{name: "inventory's store away", fail: map[string]error{"hold": lost.With("dependency", "redis")}, code: codes.Aborted, reason: reasonSeatsUnresolved, away: "redis", released: 1},
		{name: "inventory overloaded", fail: map[string]error{"hold": problem.New(codes.ResourceExhausted, problem.Overloaded, "full")}, code: codes.Aborted, reason: reasonSeatsUnresolved, released: 1},
		{name: "payment away", fail: map[string]error{"charge": lost}, code: codes.Aborted, reason: reasonPaymentUnresolved, away: "payment", payment: "voided", released: 1},
		{name: "bank away", fail: map[string]error{"charge": problem.New(codes.Unavailable, reasonBankAway, "gone")}, code: codes.Aborted, reason: reasonPaymentUnresolved, away: "bank", payment: "voided", released: 1},
		{name: "charged, answer lost", lose: map[string]error{"charge": lost}, code: codes.Aborted, reason: reasonPaymentUnresolved, away: "payment", payment: "refunded", released: 1},
		{name: "bank's quota", fail: map[string]error{"charge": problem.New(codes.ResourceExhausted, reasonQuotaExceeded, "quota").Retry(time.Second)},
			code: codes.ResourceExhausted, reason: reasonQuotaExceeded, payment: "voided", released: 1},
		{name: "hold expired before it was confirmed", fail: map[string]error{"confirm": refuse(reasonHoldExpired)},
			code: codes.FailedPrecondition, reason: reasonHoldExpired, payment: "refunded", released: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns, w := broker(t, natsd.Options{}), newWorld(t)
			w.before = func(step, _ string) error { return c.fail[step] }
			w.after = func(step, _ string) error { return c.lose[step] }
			r := newReplica(t, ns, w, slow, true)
			req := request("key-00001")
			if c.change != nil {
				c.change(req)
			}
			var first *problem.Problem
			for range 2 {
				_, err := r.Checkout(t.Context(), req)
				p := problem.From(err)
				if p == nil || p.Code != c.code || p.Reason != c.reason || p.Retryable {
					t.Fatalf("got %v, want %v %s, not retryable", err, c.code, c.reason)
				}
				if got := p.Metadata["dependency"]; got != c.away {
					t.Errorf("it names %q as away, want %q", got, c.away)
				}
				if first == nil {
					first = p
				} else if first.Message != p.Message || first.Metadata["order_id"] != p.Metadata["order_id"] {
					t.Errorf("replay: %v, first: %v", p, first)
				}
			}
			id := orderID("ada", "key-00001")
			reaches(t, ns, id, cancelled)
			consistent(t, ns, w, id)
			if w.payments[id] != c.payment || w.count("release") != c.released {
				t.Errorf("payment %q, %d releases; want %q, %d", w.payments[id], w.count("release"), c.payment, c.released)
			}
		})
	}
}

// A confirm that is not answered is asked until it is: the money is taken.
func TestConfirmIsRepeated(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	var mu sync.Mutex
	failures := 4
	w.after = func(step, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		if step == "confirm" && failures > 0 {
			failures--
			return problem.New(codes.Unavailable, problem.DependencyAway, "gone")
		}
		return nil
	}
	r := newReplica(t, ns, w, slow, false)
	if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
		t.Fatal(err)
	}
	consistent(t, ns, w, orderID("ada", "key-00001"))
	if n := w.count("confirm"); n != 5 {
		t.Errorf("confirm ran %d times, want 5", n)
	}
}

// A caller that hangs up while its card is being charged does not stop the
// order; one that hangs up before does.
func TestCallerHangsUp(t *testing.T) {
	for at, want := range map[string]orderv1.OrderState{"hold": cancelled, "charge": confirmed, "confirm": confirmed} {
		t.Run(at, func(t *testing.T) {
			ns, w := broker(t, natsd.Options{}), newWorld(t)
			ctx, hangUp := context.WithCancel(t.Context())
			w.before = func(step, _ string) error {
				if step == at {
					hangUp()
				}
				return nil
			}
			r := newReplica(t, ns, w, slow, true)
			if _, err := r.Checkout(ctx, request("key-00001")); (err == nil) != (want == confirmed) {
				t.Errorf("answer: %v", err)
			}
			id := orderID("ada", "key-00001")
			reaches(t, ns, id, want)
			consistent(t, ns, w, id)
		})
	}
}

// Twenty callers with one key, on two replicas: one checkout, one answer.
func TestConcurrentSameKey(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	replicas := []*replica{newReplica(t, ns, w, slow, true), newReplica(t, ns, w, slow, true)}
	answers := make([]*orderv1.CheckoutResponse, 20)
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range answers {
		wg.Go(func() {
			var err error
			if answers[i], err = replicas[i%2].Checkout(ctx, request("key-00001")); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if slices.ContainsFunc(answers, func(a *orderv1.CheckoutResponse) bool { return !proto.Equal(a, answers[0]) }) {
		t.Errorf("answers differ: %v", answers)
	}
	consistent(t, ns, w, orderID("ada", "key-00001"))
	for _, step := range []string{"hold", "charge", "confirm"} {
		if n := w.count(step); n != 1 {
			t.Errorf("%s ran %d times", step, n)
		}
	}
}

// Whoever asks for an order under way is told so before its deadline.
func TestInProgress(t *testing.T) {
	ns, w := broker(t, natsd.Options{}), newWorld(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	w.before = func(step, _ string) error {
		if step == "charge" {
			close(reached)
			<-goOn
		}
		return nil
	}
	r := newReplica(t, ns, w, slow, false)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
			t.Errorf("first: %v", err)
		}
	})
	<-reached
	eventually(t, "an answer comes before the deadline", func() bool { // on a busy machine not each does
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := r.Checkout(ctx, request("key-00001"))
		if ctx.Err() != nil {
			return false
		}
		if p := problem.From(err); p == nil || p.Code != codes.Aborted || p.Reason != reasonInProgress || !p.Retryable || p.RetryAfter <= 0 {
			t.Errorf("second: %v", err)
		}
		return true
	})
	close(goOn)
	wg.Wait()
	if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
		t.Errorf("third: %v", err)
	}
}

// With NATS away a checkout is refused at once, nothing is held or charged,
// and the same replica serves again when NATS is back.
func TestNATSAway(t *testing.T) {
	dir := t.TempDir()
	ns, w := broker(t, natsd.Options{StoreDir: dir}), newWorld(t)
	r := newReplica(t, ns, w, slow, true)
	if _, err := r.Checkout(t.Context(), request("key-00001")); err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(ns.ClientURL(), "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	ns.Shutdown()
	ns.WaitForShutdown()
	begin := time.Now()
	_, err := r.Checkout(t.Context(), request("key-00002"))
	if p := problem.From(err); p == nil || p.Code != codes.Unavailable || p.Reason != problem.DependencyAway || !p.Retryable {
		t.Errorf("without NATS: %v", err)
	}
	if took := time.Since(begin); took > 2*natsTimeout {
		t.Errorf("the refusal took %v", took)
	}
	if w.count("hold") != 1 {
		t.Error("seats were held without a record")
	}
	ns = broker(t, natsd.Options{StoreDir: dir, Port: port})
	eventually(t, "checkout works again", func() bool {
		_, err := r.Checkout(t.Context(), request("key-00003"))
		return err == nil
	})
	consistent(t, ns, w, orderID("ada", "key-00001"))
	consistent(t, ns, w, orderID("ada", "key-00003"))
}

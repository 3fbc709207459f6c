package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"spillway.dev/platform/keyspace"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

var errCrashed = errors.New("the replica is gone")

// actor is one call whose steps (commands to Redis, calls to the bank) happen
// when the schedule says so. After crashAt steps it takes no more; with lost
// set it still has the effect of the next one but never hears of it.
type actor struct {
	grant   chan struct{} // the schedule lets one step happen
	ready   chan bool     // true: at a step, waiting; false: the call has ended
	steps   int
	crashAt int
	lost    bool
}

type actorKey struct{}

// step runs one step of the actor in ctx under the schedule.
func step(ctx context.Context, effect func() error) error {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok {
		return effect()
	}
	if a.steps > a.crashAt || a.steps == a.crashAt && !a.lost {
		return errCrashed
	}
	a.ready <- true
	<-a.grant
	a.steps++
	err := effect()
	if a.steps > a.crashAt {
		return errCrashed
	}
	return err
}

// scheduled is the Redis hook that makes every command a step.
type scheduled struct{}

func (scheduled) DialHook(next redis.DialHook) redis.DialHook { return next }
func (scheduled) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return step(ctx, func() error { return next(context.WithoutCancel(ctx), cmd) })
	}
}
func (scheduled) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// scheduledBank makes every call to the bank a step.
type scheduledBank struct{ *bank }

func (b scheduledBank) Charge(ctx context.Context, req *bankv1.ChargeRequest, _ ...grpc.CallOption) (resp *bankv1.ChargeResponse, err error) {
	err = step(ctx, func() error { resp, err = b.bank.Charge(ctx, req); return err })
	return resp, err
}

func (b scheduledBank) Refund(ctx context.Context, req *bankv1.RefundRequest, _ ...grpc.CallOption) (resp *bankv1.RefundResponse, err error) {
	err = step(ctx, func() error { resp, err = b.bank.Refund(ctx, req); return err })
	return resp, err
}

func (b scheduledBank) ListTransactions(context.Context, *bankv1.ListTransactionsRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[bankv1.ListTransactionsResponse], error) {
	return nil, errors.New("payment does not list")
}

// run plays one schedule: whose turn it is, turn by turn. A turn of an actor
// that has ended is skipped, and what is left at the end runs by itself. It returns the errors of the calls.
func run(t *testing.T, calls []func(context.Context) error, actors []*actor, schedule []int) []error {
	errs := make([]error, len(calls))
	alive := make([]bool, len(calls))
	for i, call := range calls {
		a := actors[i]
		a.grant, a.ready = make(chan struct{}), make(chan bool)
		go func() {
			errs[i] = call(context.WithValue(t.Context(), actorKey{}, a))
			close(a.ready)
		}()
		alive[i] = <-a.ready
	}
	for _, i := range schedule {
		if alive[i] {
			actors[i].grant <- struct{}{}
			alive[i] = <-actors[i].ready
		}
	}
	for i := range calls { // whoever lost a race needs turns beyond the schedule
		for alive[i] {
			actors[i].grant <- struct{}{}
			alive[i] = <-actors[i].ready
		}
	}
	return errs
}

// schedules gives every way to merge a turns of actor 0 with b turns of 1.
func schedules(a, b int) [][]int {
	if a == 0 && b == 0 {
		return [][]int{nil}
	}
	var all [][]int
	if a > 0 {
		for _, rest := range schedules(a-1, b) {
			all = append(all, append([]int{0}, rest...))
		}
	}
	if b > 0 {
		for _, rest := range schedules(a, b-1) {
			all = append(all, append([]int{1}, rest...))
		}
	}
	return all
}

// Charge and Cancel of one payment, in every order of their steps (the record,
// the bank, the record again), each crashing before or after the effect of
// every step, or not at all. Whoever got no answer asks again. In the end the
// record and the bank's books say the same, and money was taken at most once.
func TestEveryInterleaving(t *testing.T) {
	const never = 100
	client := redisClient(t, redisServer(t))
	client.AddHook(scheduled{})
	b := newBank()
	s := newServer(scheduledBank{b}, newStore(client), slog.New(slog.DiscardHandler))
	if err := s.payments.swap.Load(t.Context(), client).Err(); err != nil { // one command a change from now on
		t.Fatal(err)
	}
	same := map[paymentv1.PaymentState]bankv1.TransactionState{
		captured: bankCaptured, declined: bankDeclined, voided: bankVoided, refunded: bankRefunded,
	}
	runs := 0
	for _, card := range []string{"tok_visa", "tok_declined"} {
		// A charge has 3 steps, a cancel 4, and 5 when it loses a race.
		for pair, turns := range map[string][2]int{"charge|cancel": {3, 5}, "charge|charge": {3, 3}, "cancel|cancel": {4, 4}} {
			if pair == "cancel|cancel" && card == "tok_declined" {
				continue // no card in it
			}
			for _, schedule := range schedules(turns[0], turns[1]) {
				for crash := range 17 { // 0–3: actor 0 before step n; 4–7: after it; then actor 1; 16: nobody
					runs++
					ref := fmt.Sprintf("o-run-%d", runs)
					doCharge := func(ctx context.Context) error {
						_, err := s.Charge(ctx, &paymentv1.ChargeRequest{PaymentId: ref, AmountCents: 4500, CardToken: card})
						return err
					}
					doCancel := func(ctx context.Context) error {
						_, err := s.Cancel(ctx, &paymentv1.CancelRequest{PaymentId: ref})
						return err
					}
					calls := []func(context.Context) error{doCharge, doCancel}
					switch pair {
					case "charge|charge":
						calls[1] = doCharge
					case "cancel|cancel":
						calls[0] = doCancel
					}
					actors := []*actor{{crashAt: never}, {crashAt: never}}
					if crash < 16 {
						a := actors[crash/8]
						a.crashAt, a.lost = crash%4, crash%8 >= 4
					}
					errs := run(t, calls, actors, schedule)
					for i, err := range errs {
						if errors.Is(err, errCrashed) {
							_ = calls[i](t.Context()) // asked again: it must settle, whatever it answers
						}
					}
					rec, err := s.payments.get(t.Context(), ref)
					if err != nil || !rec.exists() {
						t.Fatalf("no record: %v", err)
					}
					books := b.books[ref]
					if want, final := same[rec.GetState()]; !final || want != books && !(rec.GetState() == voided && books == bankDeclined) {
						t.Fatalf("%s with %s, schedule %v, crash %d: record %v, books %v (%v)", pair, card, schedule, crash, rec.GetState(), books, errs)
					}
					if pair != "charge|charge" && (rec.GetState() == captured || b.captures[ref] > 1) {
						t.Fatalf("%s with %s, schedule %v, crash %d: cancelled, but %v with %d captures", pair, card, schedule, crash, rec.GetState(), b.captures[ref])
					}
					if pair == "charge|charge" && card == "tok_visa" && (rec.GetState() != captured || b.captures[ref] != 1) {
						t.Fatalf("%s, schedule %v, crash %d: %v with %d captures", pair, schedule, crash, rec.GetState(), b.captures[ref])
					}
				}
			}
		}
	}
	t.Logf("%d runs, %d records", runs, len(b.books))
	if n, err := client.DBSize(t.Context()).Result(); err != nil || int(n) != runs {
		t.Errorf("%d keys %q* in Redis for %d runs (%v)", n, keyspace.PaymentPrefix, runs, err)
	}
}

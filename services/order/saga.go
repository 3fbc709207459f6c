package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/problem"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

// Waits between repetitions of a step, doubling.
const (
	againFirst = 25 * time.Millisecond
	againMost  = 500 * time.Millisecond
)

// saga carries orders on, step by step, as decide.go says. Every transition is
// a write that names the revision it follows, so of two replicas that work on
// one order, one wins each transition and the other stops; and since every
// step is idempotent by the order's id, what the loser had begun does no harm.
// Leases only keep that from happening often: clocks that differ cost work,
// never an invariant. Safe for concurrent use.
type saga struct {
	store *store
	down  downstreams
	lease time.Duration
	now   func() time.Time
	log   *slog.Logger

	failed chan failedOrder // to be undone behind the answer

	finished  *prometheus.CounterVec
	recovered *prometheus.CounterVec
	charged   prometheus.Counter
	backlog   prometheus.Gauge
}

func newSaga(st *store, down downstreams, lease time.Duration, now func() time.Time, log *slog.Logger, reg prometheus.Registerer) (*saga, error) {
	s := &saga{
		store: st, down: down, lease: lease, now: now, log: log,
		failed: make(chan failedOrder, undos),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_order_finished_total",
			Help: "Orders that became final, by state and by the reason they were cancelled for.",
		}, []string{"state", "reason"}),
		recovered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_order_recovered_total",
			Help: "Orders that the recovery took over, by the state they were found in: their replica is gone, or could not undo them.",
		}, []string{"from"}),
		charged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_order_queued_payments_total",
			Help: "Orders taken from the queue of payments by this replica, those included that it puts back.",
		}),
		backlog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "spillway_order_backlog_messages",
			Help: "Orders on the queue of payments, of all replicas together: not yet delivered, or delivered and not acknowledged.",
		}),
	}
	return s, errors.Join(reg.Register(s.finished), reg.Register(s.recovered), reg.Register(s.charged), reg.Register(s.backlog))
}

// stepTimeout bounds one step, so that a replica that lives is done with it
// before its lease is over.
func (s *saga) stepTimeout() time.Duration { return s.lease * 3 / 5 }

// errand is what a run of the saga is about.
type errand struct {
	// card is "" when it is not known.
	card string
	// extra is how long the run goes on past the caller's deadline.
	extra time.Duration
	// reserve ends the run when the seats are held; the order then waits for its
	// charge until payBy.
	reserve bool
	// patient has a charge of which nothing is known asked for again, as long as
	// the run lasts: payment answers the same to the same order's id.
	patient bool
	// undo has the run undo an order that is CANCELLING, or becomes so. Without it
	// the run ends there, and the order is undone behind it.
	undo bool
}

// run carries an order on until it is decided, its time is over or another
// replica has it, and returns the record as it is then. An error says that the
// order is not decided, or not undone by a run that is to undo it; it is on the
// work queue. ctx is the caller's: its end stops the saga before the charge and
// never after it.
//
// An undo is tried once in a run. Most that fail do so because somebody is away
// or overloaded, and the seconds between two looks of the recovery are what that
// takes; nobody waits for it.
func (s *saga) run(ctx context.Context, rec record, e errand) (record, error) {
	extra := e.extra
	if deadline, ok := ctx.Deadline(); ok {
		extra += max(time.Until(deadline), 0)
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), extra)
	defer cancel()
	wait := againFirst
	for {
		do := next(rec.Order, e.card != "")
		undoing := do == stepRelease || do == stepUndo
		if do == stepNone || e.reserve && do == stepCharge || undoing && !e.undo {
			return rec, nil
		}
		out := s.do(ctx, patience, do, rec.Order, e.card)
		state, again := after(do, out)
		if e.patient && do == stepCharge && out.verdict == unknown {
			state, again = held, true
		}
		if do == stepAnnounce && !again {
			return rec, nil
		}
		if again && undoing {
			return rec, inProgress(rec.GetOrderId())
		}
		if again {
			s.log.InfoContext(ctx, "order step to be repeated", "order", rec.GetOrderId(), "step", string(do), "reason", out.reason)
			if !pause(patience, wait) {
				return rec, inProgress(rec.GetOrderId())
			}
			wait = min(2*wait, againMost)
			now := s.now()
			ends := rec.GetLeaseExpiresAt().AsTime()
			renewed := leaseAfter(ends, now, s.lease)
			if state == confirmed || renewed.Equal(ends) {
				continue
			}
			var err error
			if rec, err = s.store.put(patience, rec, moved(rec.Order, state, out, now, renewed)); err != nil {
				return rec, s.stopped(err, rec)
			}
			continue
		}
		wait = againFirst
		now := s.now()
		ends := leaseAfter(rec.GetLeaseExpiresAt().AsTime(), now, s.lease)
		switch {
		case e.reserve && state == held:
			ends = payBy(rec.Order)
		case e.patient && do == stepCharge: // paid or refused: from here on it is an order like any other
			ends = now.Add(s.lease)
		case state == cancelling && !e.undo: // whole, for whoever undoes it
			ends = now.Add(s.lease)
		}
		written, err := s.store.put(patience, rec, moved(rec.Order, state, out, now, ends))
		if err != nil {
			return written, s.stopped(err, rec)
		}
		rec = written
		s.note(ctx, rec.Order)
		if state == cancelling && !e.undo { // here, so that only who wrote it hands it over, and once
			s.undoBehind(ctx, rec)
		}
	}
}

// stopped is the answer of a saga whose order was not written.
func (s *saga) stopped(err error, rec record) error {
	if errors.Is(err, errLost) {
		return inProgress(rec.GetOrderId())
	}
	return err
}

func (s *saga) note(ctx context.Context, o *orderv1.Order) {
	switch o.GetState() {
	case confirmed, cancelled:
		state := "confirmed"
		if o.GetState() == cancelled {
			state = "cancelled"
		}
		s.finished.WithLabelValues(state, o.GetReason()).Inc()
		s.log.InfoContext(ctx, "order final", "order", o.GetOrderId(), "state", state, "reason", o.GetReason(), "amount_cents", o.GetAmountCents())
	}
}

// do runs one step.
func (s *saga) do(caller, patience context.Context, do step, o *orderv1.Order, card string) outcome {
	if do == stepAbandon {
		return outcome{verdict: unknown, reason: reasonAbandoned}
	}
	if do == stepHold || do == stepCharge {
		// Until the charge is sent nobody is worse off for stopping here, and
		// these two are worth only as much time as the caller has left. But the
		// caller's hanging up must not cut a charge off half-way: that would
		// turn a known outcome into an unknown one.
		if caller.Err() != nil {
			return outcome{verdict: unknown, reason: reasonTimedOut}
		}
		if deadline, ok := caller.Deadline(); ok {
			var cancel context.CancelFunc
			patience, cancel = context.WithDeadline(patience, deadline)
			defer cancel()
		}
	}
	ctx, cancel := context.WithTimeout(patience, s.stepTimeout())
	defer cancel()
	switch do {
	case stepHold:
		resp, err := s.down.inventory.Hold(ctx, &inventoryv1.HoldRequest{HoldId: o.GetOrderId(), ShowId: o.GetShowId(), SeatIds: o.GetSeatIds()})
		if err == nil && resp.GetAmountCents() <= 0 {
			err = fmt.Errorf("inventory asks %d cents for the seats", resp.GetAmountCents())
		}
		return s.judge(ctx, do, o, err, reasonSeatsUnresolved, resp.GetAmountCents())
	case stepCharge:
		_, err := s.down.payment.Charge(ctx, &paymentv1.ChargeRequest{PaymentId: o.GetOrderId(), AmountCents: o.GetAmountCents(), CardToken: card})
		return s.judge(ctx, do, o, err, reasonPaymentUnresolved, 0)
	case stepConfirm:
		_, err := s.down.inventory.Confirm(ctx, &inventoryv1.ConfirmRequest{ShowId: o.GetShowId(), HoldId: o.GetOrderId()})
		return s.judge(ctx, do, o, err, reasonSeatsUnresolved, 0)
	case stepAnnounce:
		return s.judge(ctx, do, o, s.store.announce(ctx, o), problem.DependencyAway, 0)
	case stepRelease:
		return s.judge(ctx, do, o, s.release(ctx, o), reasonSeatsUnresolved, 0)
	default: // stepUndo
		refund := make(chan error, 1)
		go func() {
			_, err := s.down.payment.Cancel(ctx, &paymentv1.CancelRequest{PaymentId: o.GetOrderId()})
			refund <- err
		}()
		err := s.release(ctx, o)
		return s.judge(ctx, do, o, errors.Join(<-refund, err), reasonPaymentUnresolved, 0)
	}
}

func (s *saga) release(ctx context.Context, o *orderv1.Order) error {
	_, err := s.down.inventory.Release(ctx, &inventoryv1.ReleaseRequest{ShowId: o.GetShowId(), HoldId: o.GetOrderId()})
	if problem.Reason(err) == problem.ShowUnknown { // no show, no seats to give back
		return nil
	}
	return err
}

// callees are whom the reasons are about that say that somebody did not answer.
var callees = map[string]string{reasonSeatsUnresolved: "inventory", reasonPaymentUnresolved: "payment"}

// judge makes an outcome of an error. Only what a service decided itself is a
// refusal; every other failure leaves open whether the step was done.
func (s *saga) judge(ctx context.Context, do step, o *orderv1.Order, err error, unresolved string, amount int64) outcome {
	if err == nil {
		return outcome{verdict: done, amountCents: amount}
	}
	s.log.WarnContext(ctx, "order step failed", "order", o.GetOrderId(), "step", string(do), "error", err)
	p := problem.From(err)
	reason := cmp.Or(p.Reason, unresolved)
	switch p.Code {
	case codes.FailedPrecondition, codes.NotFound, codes.InvalidArgument:
		return outcome{verdict: refused, reason: reason}
	case codes.ResourceExhausted:
		if p.Reason == reasonQuotaExceeded { // said of the last attempt; an earlier one may have got through
			return outcome{verdict: unknown, reason: reason}
		}
	}
	return outcome{verdict: unknown, reason: unresolved, away: missing(err, callees[unresolved])}
}

// takeOver makes an order that nobody works on this replica's own until then.
func (s *saga) takeOver(ctx context.Context, rec record, until time.Time) (record, error) {
	o := moved(rec.Order, rec.GetState(), outcome{}, s.now(), until)
	o.UpdatedAt = rec.GetUpdatedAt() // the state is as old as it was
	o.LeaseOwner = s.owner()
	return s.store.put(ctx, rec, o)
}

// open queues and records a new order under id. created is false when the
// order was there already; rec is that order then.
//
// The queue comes first: a crash between the two leaves a message without an
// order, which the recovery drops, instead of an order without a message,
// which nobody would ever finish.
func (s *saga) open(ctx context.Context, id string, hash []byte, req *orderv1.CheckoutRequest) (rec record, created bool, err error) {
	begin := s.now()
	if err := s.store.queue(ctx, id); err != nil {
		return record{}, false, err
	}
	now := s.now()
	rec, err = s.store.put(ctx, record{}, &orderv1.Order{
		OrderId: id, PersonId: req.GetPersonId(), ShowId: req.GetShowId(), SeatIds: req.GetSeatIds(),
		State: pending, RequestHash: hash,
		LeaseOwner: s.owner(), LeaseExpiresAt: timestamppb.New(now.Add(s.lease)),
		CreatedAt: timestamppb.New(now), UpdatedAt: timestamppb.New(now),
	})
	if errors.Is(err, errLost) {
		return rec, false, nil
	}
	if err != nil {
		return record{}, false, err
	}
	// The recovery drops a message whose order does not come for long. Should
	// this replica have stood still for so long just now, the order needs
	// another one; nothing is held or charged yet.
	if s.now().Sub(begin) > orphanAge/2 {
		if err := s.store.queue(ctx, id); err != nil {
			return record{}, false, err
		}
	}
	return rec, true, nil
}

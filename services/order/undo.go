package main

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"spillway.dev/platform/telemetry"
)

// undos is how many orders one replica undoes at once behind their answers, and
// how many more may wait for their turn.
const undos = 16

// failedOrder is an order in state CANCELLING that its replica still has the
// lease of, with the trace and the priority of the call that it failed in.
type failedOrder struct {
	rec    record
	header nats.Header
}

// undoBehind hands an order over to undoOrders, so that nobody waits for its
// undo: what it needs may be the very thing that the order failed for. It never
// blocks. An order that finds no room is still on the work queue, and the
// recovery undoes it once its lease is over.
func (s *saga) undoBehind(ctx context.Context, rec record) {
	f := failedOrder{rec, nats.Header{}}
	telemetry.Inject(ctx, f.header)
	select {
	case s.failed <- f:
	default:
		s.log.WarnContext(ctx, "too many orders are being undone; the recovery undoes this one", "order", rec.GetOrderId())
	}
}

// undoOrders undoes orders that failed on this replica until ctx ends, and
// finishes those that it is about then. Those that wait are left to the
// recovery of whoever is there, as after a crash.
func (s *saga) undoOrders(ctx context.Context) error {
	var working sync.WaitGroup
	for range undos {
		working.Go(func() {
			for ctx.Err() == nil {
				select {
				case f := <-s.failed:
					s.undo(context.WithoutCancel(ctx), f)
				case <-ctx.Done():
				}
			}
		})
	}
	working.Wait()
	return nil
}

// undo tries once to undo an order, within its lease: as long as that lasts the
// recovery leaves the order alone, so that two do not undo it at a time.
func (s *saga) undo(ctx context.Context, f failedOrder) {
	left := f.rec.GetLeaseExpiresAt().AsTime().Sub(s.now())
	if left < s.stepTimeout() { // it waited for too long
		return
	}
	ctx, cancel := context.WithTimeout(telemetry.Extract(ctx, f.header), left)
	defer cancel()
	if _, err := s.run(ctx, f.rec, errand{undo: true}); err != nil {
		s.log.WarnContext(ctx, "order not undone yet; the recovery goes on with it", "order", f.rec.GetOrderId(), "error", err)
	}
}

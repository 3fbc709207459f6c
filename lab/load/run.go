package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// grace is how long after the last deadline journeys may take to return: their
// context has ended, so what remains is scheduling.
const grace = 2 * time.Second

// Run offers the load of cfg to the gateway and reports what came of it.
// Progress is called once a second and may be nil. When ctx ends no more
// journeys begin; those under way are waited for, and the report says that the
// load was cut short. The error is about cfg only.
func Run(ctx context.Context, cfg Config, gateway gatewayv1.GatewayServiceClient, progress func(Tick)) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	walkers := newPeople(gateway, runID(), cfg.People)
	rec := newRecord()
	// Journeys live by their own deadlines, not by ctx: to stop offering load is
	// not to give up on what was asked for.
	journeys, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()

	start := time.Now()
	var ticker sync.WaitGroup
	stopTicking := make(chan struct{})
	if progress != nil {
		ticker.Go(func() { tickEverySecond(start, rec, progress, stopTicking) })
	}

	var underWay sync.WaitGroup
	for a := range cfg.Arrivals() {
		if !sleepUntil(ctx, start.Add(a.At)) {
			break
		}
		underWay.Go(func() {
			intended := start.Add(a.At)
			rec.begin(time.Since(intended))
			deadline := cfg.deadline(a.Kind)
			ctx, cancel := context.WithDeadline(journeys, intended.Add(deadline))
			defer cancel()
			err := walkers.walk(ctx, a)
			rec.end(a.Kind, time.Since(intended), deadline, err)
		})
	}
	sleepUntil(ctx, start.Add(cfg.For)) // the last gap belongs to the load
	elapsed := min(time.Since(start), cfg.For)

	// A client that ignores its deadline is given up on; then it must return.
	last := time.AfterFunc(max(cfg.BrowseDeadline, cfg.BuyDeadline)+grace, giveUp)
	underWay.Wait()
	last.Stop()
	close(stopTicking)
	ticker.Wait()
	return report(cfg, elapsed, ctx.Err() != nil, walkers, rec), nil
}

// sleepUntil returns false when ctx ends first. What is due is not slept for: a
// generator that is behind catches up, and its lag shows.
func sleepUntil(ctx context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func tickEverySecond(start time.Time, rec *record, progress func(Tick), stop <-chan struct{}) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			progress(rec.tick(now.Sub(start)))
		case <-stop:
			return
		}
	}
}

// runID keeps the people and idempotency keys of two runs apart, also of two
// runs with one seed.
func runID() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

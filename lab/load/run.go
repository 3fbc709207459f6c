package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"runtime"
	"slices"
	"sync"
	"time"
)

// grace is how long after the last deadline journeys may take to return: their
// context has ended, so what remains is scheduling.
const grace = 2 * time.Second

// Run offers the load of plan to the gateway and records what came of it.
// Progress is called once a second and may be nil. When ctx ends no more
// journeys begin; those under way are waited for until their deadlines, and the
// record says that the load was cut short. Journeys that have not returned
// seconds after their deadline are counted as NoAnswer and left alone. The
// error is about plan only.
func Run(ctx context.Context, plan Plan, gateway Gateway, progress func(Tick)) (*Record, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return run(ctx, plan, gateway, progress, preciseAlarm)
}

func run(ctx context.Context, plan Plan, gateway Gateway, progress func(Tick), wait alarm) (*Record, error) {
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	plan = plan.withDefaults()
	rec := newRecorder()
	walkers := newPeople(gateway, runID(), plan.People, rec.lost)
	deadlines := plan.deadlines()
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
	for a := range plan.Schedule() {
		if !wait(ctx, start.Add(a.At)) {
			break
		}
		rec.dispatch(a)
		underWay.Go(func() {
			intended := start.Add(a.At)
			rec.begin(a, time.Since(intended))
			ctx, cancel := context.WithDeadline(journeys, intended.Add(deadlines[a.Kind]))
			defer cancel()
			err := walkers.walk(ctx, a)
			rec.end(a, time.Since(intended), deadlines[a.Kind], err)
		})
	}
	timerAlarm(ctx, start.Add(plan.Real())) // the last gap belongs to the load
	elapsed := min(time.Since(start), plan.Real())

	all := make(chan struct{})
	go func() { underWay.Wait(); close(all) }()
	for _, patience := range []time.Duration{slices.Max(deadlines[:]) + grace, grace} {
		if returned(all, patience) {
			break
		}
		giveUp()
	}
	close(stopTicking)
	ticker.Wait()
	return report(plan, start, elapsed, ctx.Err() != nil, walkers, rec), nil
}

// returned waits for done, but no longer than patience.
func returned(done <-chan struct{}, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

func tickEverySecond(start time.Time, rec *recorder, progress func(Tick), stop <-chan struct{}) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			progress(rec.takeTick(now.Sub(start)))
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

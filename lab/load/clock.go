package load

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// alarm waits until t and returns false when ctx ends first. What is due is not
// waited for: a generator that is behind catches up, and its lag shows.
type alarm func(ctx context.Context, t time.Time) bool

// timerAlarm waits with Go's timers.
func timerAlarm(ctx context.Context, t time.Time) bool {
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

// shortWait is how long the kernel may be slept in: so long ctx goes unheard.
const shortWait = 20 * time.Millisecond

// preciseAlarm sleeps the last milliseconds in the kernel. Go's timers wake up to
// a millisecond late on a process at rest, because the network poller under
// them counts in milliseconds. It wants a thread of its own, or what waits on
// that thread would wait with it.
func preciseAlarm(ctx context.Context, t time.Time) bool {
	for {
		left := time.Until(t)
		switch {
		case left <= 0:
			return ctx.Err() == nil
		case left > shortWait:
			if !timerAlarm(ctx, t.Add(-shortWait/2)) {
				return false
			}
		default:
			ts := unix.NsecToTimespec(left.Nanoseconds())
			_ = unix.Nanosleep(&ts, nil) // when a signal cuts it short, the loop goes on
		}
	}
}

// spareProcs is how many more threads than cores may run Go code.
const spareProcs = 6

// MakeRoom prepares a process that does nothing but offer load. A Go process has
// as many threads at work as there are cores, and when the kernel takes one of
// them off a busy core, the journeys that wait on it wait on. Spare ones take
// them over: beside a mesh on two cores that were busy with much else the lag's
// p99 was about half (medians of three interleaved runs: 27 against 53 ms with
// Go's timers and no spare threads).
func MakeRoom() {
	goFirst()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcs)
}

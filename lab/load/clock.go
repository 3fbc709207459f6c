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
// them counts in milliseconds.
//
// The journey that was just started runs first, on this thread: to leave it to
// another one costs a wake-up, which takes longer than the journey needs until
// its call is sent. For the same reason the thread is not locked.
func preciseAlarm(ctx context.Context, t time.Time) bool {
	runtime.Gosched()
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

package concurrency

import (
	"time"

	"spillway.dev/platform/criticality"
)

// The bounds of the limit.
const (
	lowest  = 1
	highest = 1000
)

// beginning is the limit before anything is known: one waiting call for each at work.
func beginning(slots int) int { return min(max(2*slots, lowest), highest) }

// shares is how much of the limit each class may use, in hundredths. The twentieth that only critical calls may use, and
// the fifth that sheddable ones may not, are what a burst of more urgent calls finds free.
var shares = [criticality.Classes]int{criticality.Critical: 100, criticality.Standard: 95, criticality.Sheddable: 80}

// room is how many calls may be in flight, of all classes, for one more of this class to be let in as the last of them: at
// least 1.
func room(class criticality.Class, limit int) int {
	return max(1, limit*shares[min(class, criticality.Classes-1)]/100)
}

// interval is how often aimd changes its limit: some service times, so that the effect of one change is seen before the
// next.
const interval = 100 * time.Millisecond

// aimd sets a limit by the wait for a slot. It reads no clock and is not safe for concurrent use.
type aimd struct {
	limit float64

	until time.Time     // the end of this interval
	waits time.Duration // sum of the waits seen in it
	seen  int
	most  int // calls in flight in it, at the most
}

func newAIMD(limit int) *aimd { return &aimd{limit: float64(limit)} }

// arrive takes note of a call that comes at now, finds so many in flight, itself included, and would wait so long for a
// slot. At the end of an interval it changes the limit by the mean wait:
//
//	wait ≤ target:  limit + 1, if at least half of the limit was in use: what was not tried is not known to be good
//	                (as RFC 7661 has it for TCP's window)
//	wait > target:  limit × max(1 − 0.02 × (wait − target) ÷ target, 0.5)
//
// A call that is refused is noted as well: its wait says how long the queue is, all the same.
func (a *aimd) arrive(now time.Time, wait, target time.Duration, inFlight int) {
	if a.until.IsZero() {
		a.until = now.Add(interval)
	}
	if !now.Before(a.until) && a.seen > 0 {
		a.change(a.waits/time.Duration(a.seen), target)
		a.until, a.waits, a.seen, a.most = now.Add(interval), 0, 0, 0
	}
	a.waits += wait
	a.seen++
	a.most = max(a.most, inFlight)
}

const (
	severity = 0.02 // Breakwater's β
	harshest = 0.5
)

func (a *aimd) change(wait, target time.Duration) {
	switch {
	case wait > target:
		excess := float64(wait-target) / float64(target)
		a.limit *= max(1-severity*excess, harshest)
	case 2*a.most >= int(a.limit):
		a.limit++
	}
	a.limit = min(max(a.limit, lowest), highest)
}

// Package gcra is the decision "may one more call come in now?" by the generic cell rate algorithm: a rate, and a burst
// that callers may be ahead of it.
//
// It is ITU-T Recommendation I.371, "virtual scheduling". A limit needs one number of state, the theoretical arrival
// time: when all calls that came in so far will have been paid for at the allowed rate. Between calls nothing has to be
// done, and what has been paid for may be forgotten.
//
// Times are durations since any one instant, such as the start of the process.
package gcra

import (
	"math"
	"time"
)

// disorder is how far a theoretical arrival time may lie beyond all that its limit allows before it is taken for one of
// another clock or of a limit that has been changed since. Above it, calls would be refused for no reason of today.
const disorder = time.Second

// Limit is a rate with a burst. The zero value lets everything in.
type Limit struct {
	// Interval is what one call costs: 1 s ÷ rate.
	Interval time.Duration
	// Tolerance is how far ahead of the rate callers may be: the calls of a burst but the first, each for its Interval.
	Tolerance time.Duration
}

// PerSecond lets in rate calls a second, and after a pause burst calls at once. The interval is rounded up to the
// nanosecond, so that never more than the rate comes in. A rate below one call in 30 years, or of NaN, is that; a burst
// below 1 is 1: nothing could come in at less.
func PerSecond(rate float64, burst float64) Limit {
	const slowest = 30 * 365 * 24 * time.Hour
	interval := slowest
	if exact := math.Ceil(float64(time.Second) / rate); exact >= 0 && exact < float64(slowest) {
		interval = max(time.Duration(exact), 1)
	}
	return Limit{Interval: interval, Tolerance: times(interval, max(burst, 1)-1)}
}

// times is d × n, at most a hundred years.
func times(d time.Duration, n float64) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	if !(n > 0) { // or not a number
		return 0
	}
	return time.Duration(min(float64(d)*n, float64(most)))
}

// Share is the part of the limit for one of n that split it evenly: an n-th of the rate and of the burst. Of a burst of
// less than n calls each gets one: together they may then be ahead by more than the whole limit allows, once.
func (l Limit) Share(n int) Limit {
	if n <= 1 || l.Interval <= 0 {
		return l
	}
	interval := times(l.Interval, float64(n))
	// The burst of the whole is Tolerance + Interval, and so is that of all shares.
	return Limit{Interval: interval, Tolerance: max(l.Tolerance+l.Interval-interval, 0)}
}

// Admit decides on one call at now. paid is the theoretical arrival time so far, 0 or any time that has passed when
// there is none. leave is how much of the tolerance the call must leave to others, 0 for none; see Ask.
//
// With wait 0 the call is let in and next is the new theoretical arrival time. Otherwise it is refused, costs nothing,
// and would be let in after wait if no other came; next is then what paid should have been, which is nearly always paid.
func (l Limit) Admit(paid, now, leave time.Duration) (next, wait time.Duration) {
	if l.Interval <= 0 {
		return paid, 0
	}
	paid = l.mend(paid, now)
	if wait := l.wait(paid, now, leave); wait > 0 {
		return paid, wait
	}
	return max(paid, now) + l.Interval, 0
}

// mend gives back paid, or the most that this limit can owe when paid is not of this limit and this clock.
func (l Limit) mend(paid, now time.Duration) time.Duration {
	if most := l.Tolerance + l.Interval; paid-now > most+disorder {
		return now + most
	}
	return paid
}

// wait is how long a call must wait, 0 when it may come in.
func (l Limit) wait(paid, now, leave time.Duration) time.Duration {
	return max(paid-now-max(l.Tolerance-leave, 0), 0)
}

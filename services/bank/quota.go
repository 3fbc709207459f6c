package main

import (
	"sync"
	"time"
)

// quota is the decision "may one more call come in now?": a rate with a burst,
// as the generic cell rate algorithm has it (ITU-T I.371, "virtual scheduling").
// It keeps one instant: when the calls let in so far will have been paid for at
// the allowed rate. Safe for concurrent use.
type quota struct {
	mu        sync.Mutex
	interval  time.Duration // what one call costs: 1 s ÷ rate
	tolerance time.Duration // how far ahead of the rate callers may be
	paid      time.Time     // "theoretical arrival time"
}

// newQuota allows perSecond calls a second and as many at once after a pause of
// a second.
func newQuota(perSecond int) *quota {
	q := &quota{}
	q.set(int64(perSecond))
	return q
}

// set changes the rate. What callers are ahead stays the same time, so that a bank that was half used up is half used up
// after it, whatever the rate.
func (q *quota) set(perSecond int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.interval = time.Second / time.Duration(perSecond)
	q.tolerance = time.Second - q.interval
}

// perSecond is the rate.
func (q *quota) perSecond() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return float64(time.Second) / float64(q.interval)
}

// admit takes one call at now. A refused call costs nothing and learns how long
// to wait until one call would be let in.
func (q *quota) admit(now time.Time) (retryAfter time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	paid := q.paid
	if paid.Before(now) {
		paid = now
	}
	if ahead := paid.Sub(now); ahead > q.tolerance {
		return ahead - q.tolerance, false
	}
	q.paid = paid.Add(q.interval)
	return 0, true
}

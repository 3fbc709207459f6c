package main

import (
	"sync/atomic"
	"time"

	"spillway.dev/platform/gcra"
)

// quota is the decision "may one more call come in now?": a rate, and as many
// calls at once after a pause of a second. Safe for concurrent use.
type quota struct {
	begin time.Time
	limit atomic.Pointer[gcra.Limit]
	calls *gcra.Limiter
}

// newQuota allows perSecond calls a second from begin on.
func newQuota(perSecond int, begin time.Time) *quota {
	q := &quota{begin: begin, calls: gcra.NewLimiter()}
	q.set(int64(perSecond))
	return q
}

// set changes the rate. What callers are ahead stays the same time, so that a bank that was half used up is half used up
// after it, whatever the rate.
func (q *quota) set(perSecond int64) {
	limit := gcra.PerSecond(float64(perSecond), float64(perSecond))
	q.limit.Store(&limit)
}

// perSecond is the rate.
func (q *quota) perSecond() float64 { return float64(time.Second) / float64(q.limit.Load().Interval) }

// admit takes one call at now. A refused call costs nothing and learns how long
// to wait until one call would be let in.
func (q *quota) admit(now time.Time) (retryAfter time.Duration, ok bool) {
	wait, _ := q.calls.Admit(now.Sub(q.begin), gcra.Ask{Limit: *q.limit.Load()})
	return wait, wait == 0
}

// Package backoff decides when a container that ended is started again.
package backoff

import "time"

// Kubernetes starts a container again at once the first time it ends, then after
// 10 s, doubling up to 5 min, and forgets after 10 min without an end. These are
// the same rule on the scale of a person who watches one machine: a fortieth at
// first, at most a thirtieth.
const (
	first  = 250 * time.Millisecond
	limit  = 10 * time.Second
	forget = 2 * limit
)

// Crash is the back-off of one container. The zero value is ready for use.
type Crash struct {
	delay time.Duration
	last  time.Time
}

// Next is told that the container ended and tells how long to wait before it is
// started again.
func (c *Crash) Next(now time.Time) time.Duration {
	if !c.last.IsZero() && now.Sub(c.last) > forget {
		c.delay = 0
	}
	c.last = now
	wait := c.delay
	c.delay = min(max(2*c.delay, first), limit)
	return wait
}

package pacing

import (
	"time"

	"go.uber.org/ratelimit"
)

// schedule gives out turns that are an interval apart. It reads no clock: times are durations since any one instant. It
// is not safe for concurrent use.
//
// The zero value begins with its first call as if a turn had just been taken: replicas that are added to others send no
// more than their shares from the first, where a call each at once would be a burst.
type schedule struct {
	limiter  ratelimit.Limiter
	clock    told
	interval time.Duration
	next     time.Duration // the earliest turn that is free
	last     time.Duration // the latest that was given out
}

// told is the limiter's clock: it knows the time by being told and never sleeps.
type told struct{ now time.Duration }

// epoch is what the limiter takes for the instant that times count from. Its own zero would mean "no turn yet".
var epoch = time.Unix(1<<30, 0)

func (c *told) Now() time.Time      { return epoch.Add(c.now) }
func (c *told) Sleep(time.Duration) {}

// reserve gives out the turn of a call that comes at now, unless it would be later than latest. ok tells; the turn that
// is not given out stays free, and at says when it is.
func (s *schedule) reserve(now, interval, latest time.Duration) (at time.Duration, ok bool) {
	if interval != s.interval {
		s.pace(now, interval)
	}
	// The limiter's own rule without slack, and the reason that it need not be asked about a turn that nobody takes.
	if at = max(now, s.next); at > latest {
		return at, false
	}
	at = s.take(now)
	s.last = at
	return at, true
}

func (s *schedule) take(now time.Duration) time.Duration {
	s.clock.now = now
	at := s.limiter.Take().Sub(epoch)
	s.next = at + s.interval
	return at
}

// pace changes the interval. Turns that were given out stay, and count by the new interval: when it is longer, the next
// free turn moves so far away that the new rate holds from now on, over all; when it is shorter, it comes nearer, but no
// nearer than an interval after the last turn that was given out.
func (s *schedule) pace(now, interval time.Duration) {
	before := s.interval
	s.interval = interval
	s.limiter = ratelimit.New(1, ratelimit.Per(interval), ratelimit.WithoutSlack, ratelimit.WithClock(&s.clock))
	owing := now // all turns until then are gone
	if before > 0 {
		owing = s.next - before
	}
	if owing > now {
		scaled := float64(owing-now) * (float64(interval) / float64(before))
		owing = max(now+time.Duration(min(scaled, float64(mostOwed))), s.last)
	}
	s.take(owing) // a limiter's first turn is whenever it is asked
}

// mostOwed bounds what is owed after a change of the interval; no wait is allowed to be as long.
const mostOwed = time.Hour

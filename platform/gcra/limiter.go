package gcra

import (
	"sync"
	"time"
)

// Ask is one limit that a call must keep.
type Ask struct {
	// Key tells what is limited; limits of one Limiter that share a key share their state.
	Key string
	// Limit may change from call to call.
	Limit Limit
	// Leave is how much of the limit's tolerance the call may not use, so that others find room: a call is refused
	// while callers are ahead by more than Tolerance - Leave. Under lasting overload those who leave nothing get all that
	// they ask for, up to the rate, and the others what is left of it. This is trunk reservation, as telephone networks
	// have it (F. P. Kelly, "Loss Networks", Annals of Applied Probability 1(3), 1991).
	Leave time.Duration
}

// Limiter keeps the state of any number of limits in this process. Safe for concurrent use.
//
// What it keeps of a limit is dropped once it says nothing more, so a Limiter holds no more keys than calls came in
// within the longest Tolerance + Interval, and twice that for a moment.
type Limiter struct {
	mu     sync.Mutex
	latest time.Duration // the latest time that any call came with
	paid   map[string]time.Duration
	sweep  int // how many keys to hold before those that say nothing are looked for
}

// leastSweep is the number of keys that are not worth looking through.
const leastSweep = 1024

// NewLimiter returns a Limiter that has let nothing in.
func NewLimiter() *Limiter {
	return &Limiter{paid: make(map[string]time.Duration), sweep: leastSweep}
}

// Admit lets a call in at now if all limits allow it, and then charges all of them; a refused call costs nothing. With
// wait 0 it is let in. Otherwise it would be after wait, if no other came; by is the index of the limit that takes
// longest. The keys of asks differ. Calls whose times are out of order are all taken to be at the latest of them.
func (l *Limiter) Admit(now time.Duration, asks ...Ask) (wait time.Duration, by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.at(now)
	for i, ask := range asks {
		paid, known := l.paid[ask.Key]
		if !known || ask.Limit.Interval <= 0 {
			continue // nothing is owed
		}
		if mended := ask.Limit.mend(paid, now); mended != paid {
			paid = mended
			l.paid[ask.Key] = paid
		}
		if w := ask.Limit.wait(paid, now, ask.Leave); w > wait {
			wait, by = w, i
		}
	}
	if wait == 0 {
		l.charge(now, asks)
	}
	return wait, by
}

// Charge counts a call that came in by another's decision: the limits owe for it as far as they can owe anything.
func (l *Limiter) Charge(now time.Duration, asks ...Ask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.charge(l.at(now), asks)
}

// at keeps time from running backwards: a caller may have read its clock long before it came by the lock.
func (l *Limiter) at(now time.Duration) time.Duration {
	l.latest = max(l.latest, now)
	return l.latest
}

func (l *Limiter) charge(now time.Duration, asks []Ask) {
	for _, ask := range asks {
		limit := ask.Limit
		if limit.Interval <= 0 {
			continue
		}
		owed := max(limit.mend(l.paid[ask.Key], now), now) + limit.Interval
		l.paid[ask.Key] = min(owed, now+limit.Tolerance+limit.Interval)
	}
	if len(l.paid) < l.sweep {
		return
	}
	for key, paid := range l.paid {
		if paid <= now {
			delete(l.paid, key)
		}
	}
	l.sweep = max(2*len(l.paid), leastSweep)
}

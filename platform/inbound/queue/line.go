package queue

import (
	"time"

	"spillway.dev/platform/criticality"
)

// mode is the discipline of a line.
type mode string

// The disciplines.
const (
	off         mode = "off"
	fifo        mode = "fifo"
	newestFirst mode = "newest-first"
)

// verdict is what becomes of a call.
type verdict uint8

const (
	waits verdict = iota
	passes
	// refused because the line is full.
	full
	// refused because its turn cannot come in time, or came too late to finish.
	late
	// refused because it waited for longer than a call does in a line that does not get shorter.
	stale
)

// call is one that came to the line. What it is does not change; where it is, is the line's.
type call struct {
	class    criticality.Class
	arrived  time.Time // at the replica, which is when a slot may begin with it
	entered  time.Time // here
	deadline time.Time // zero for none

	number     uint64 // in the order of entry
	prev, next *call
	waiting    bool
	past       bool
	told       chan verdict // holds one; nil as long as the call did not have to wait
}

// list is the waiting calls of one class, in the order of entry.
type list struct {
	oldest, newest *call
	length         int
}

// line decides who is let past, in which order, and who is refused. It reads no clock and is not safe for concurrent use.
//
// The invariant: as long as anybody waits, at least slots calls are past.
type line struct {
	mode  mode
	slots int
	past  int

	classes [criticality.Classes]list
	length  int
	number  uint64
	// empty is when the line was last seen empty.
	empty time.Time
}

// shortest and longest are how long a call may wait newest first: longest in ordinary times, shortest once the line has
// not been empty for longest. They are the 5 and 100 ms of B. Maurer, "Fail at Scale" (ACM Queue 13(8), 2015), where
// they suit services of a few milliseconds, and grow with the service time where that is longer.
func shortest(service time.Duration) time.Duration { return max(5*time.Millisecond, service) }
func longest(service time.Duration) time.Duration  { return max(100*time.Millisecond, 10*service) }

// overloaded tells whether the line stands: it has had no empty moment for long.
func (l *line) overloaded(now time.Time, service time.Duration) bool {
	return l.mode == newestFirst && l.length > 0 && now.Sub(l.empty) > longest(service)
}

// patience is how long a call that enters at now may wait; 0 for as long as its own time allows.
func (l *line) patience(now time.Time, service time.Duration) time.Duration {
	switch {
	case l.mode != newestFirst:
		return 0
	case l.overloaded(now, service):
		return shortest(service)
	}
	return longest(service)
}

// arrive decides on a call that comes at now: it passes, waits, or is refused as full or late. Newest first, a line that
// stands and is full takes it in place of the oldest call of the least urgent class, dropped, unless all that wait are
// more urgent. limit is how many may wait, service the mean service time.
func (l *line) arrive(now time.Time, c *call, limit int, service time.Duration) (v verdict, dropped *call) {
	if l.length == 0 {
		l.empty = now
		if l.past < l.slots {
			l.past++
			c.past = true
			return passes, nil
		}
	}
	standing := l.overloaded(now, service)
	if !c.deadline.IsZero() {
		ahead := l.length
		if standing {
			ahead = l.moreUrgent(c.class)
		}
		// All slots are at work: one of them becomes free every service ÷ slots, on average.
		turn := now.Add(time.Duration(ahead+1) * service / time.Duration(l.slots))
		if turn.Add(service).After(c.deadline) {
			return late, nil
		}
	}
	if l.length >= limit {
		if !standing {
			return full, nil
		}
		if dropped = l.leastUrgent(); dropped.class < c.class {
			return full, nil
		}
		l.remove(dropped)
	}
	l.push(c)
	return waits, dropped
}

// leave takes note that a call that was let past holds no slot any more. next tells who follows.
func (l *line) leave(c *call) {
	if c.past {
		c.past = false
		l.past--
	}
}

// next takes the call off the line whose turn it is, if there is one, and tells whether it passes or is refused since too
// little of its time is left. freed is when the slot became free: of the newest calls one is taken that had arrived by
// then, so that a slot does not stand idle for as long as this process was late to notice.
func (l *line) next(now, freed time.Time, service time.Duration) (*call, verdict) {
	if l.length == 0 || l.past >= l.slots {
		return nil, waits
	}
	c := l.oldest()
	if l.overloaded(now, service) {
		c = l.newest(freed)
	}
	l.remove(c)
	if !c.deadline.IsZero() && c.deadline.Sub(now) < service {
		return c, late
	}
	l.past++
	c.past = true
	return c, passes
}

// release takes any call off the line and lets it past, whether a slot is free or not; nil when there is none.
func (l *line) release() *call {
	c := l.oldest()
	if c != nil {
		l.remove(c)
		l.past++
		c.past = true
	}
	return c
}

// headWait is how long the call has waited that has waited for longest, 0 when none waits.
func (l *line) headWait(now time.Time) time.Duration {
	if l.length == 0 {
		return 0
	}
	return max(0, now.Sub(l.oldest().entered))
}

func (l *line) oldest() (oldest *call) {
	for i := range l.classes {
		if c := l.classes[i].oldest; c != nil && (oldest == nil || c.number < oldest.number) {
			oldest = c
		}
	}
	return oldest
}

// newest is the newest call of the most urgent class that had arrived at freed; the oldest of all when nobody had.
func (l *line) newest(freed time.Time) *call {
	for i := range l.classes {
		for c := l.classes[i].newest; c != nil; c = c.prev {
			if !c.arrived.After(freed) {
				return c
			}
		}
	}
	return l.oldest()
}

// leastUrgent is the oldest call of the least urgent class that waits; nil when none waits.
func (l *line) leastUrgent() *call {
	for i := len(l.classes) - 1; i >= 0; i-- {
		if c := l.classes[i].oldest; c != nil {
			return c
		}
	}
	return nil
}

// moreUrgent is how many of more urgent classes wait.
func (l *line) moreUrgent(class criticality.Class) (n int) {
	for i := range min(int(class), len(l.classes)) {
		n += l.classes[i].length
	}
	return n
}

func (l *line) push(c *call) {
	in := &l.classes[c.class]
	l.number++
	c.number, c.waiting, c.prev, c.next = l.number, true, in.newest, nil
	if in.newest != nil {
		in.newest.next = c
	} else {
		in.oldest = c
	}
	in.newest = c
	in.length++
	l.length++
}

// remove takes a call off the line and tells whether it was on it.
func (l *line) remove(c *call) bool {
	if !c.waiting {
		return false
	}
	in := &l.classes[c.class]
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		in.oldest = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		in.newest = c.prev
	}
	c.waiting, c.prev, c.next = false, nil, nil
	in.length--
	l.length--
	return true
}

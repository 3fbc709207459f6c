package queue

import (
	"math/rand/v2"
	"testing"
	"time"

	"spillway.dev/platform/criticality"
)

const ms = time.Millisecond

// at is a time on the tests' own clock.
func at(d time.Duration) time.Time { return time.Unix(1000, 0).Add(d) }

// comer is a call that arrives at the replica and the line at the same time; a deadline of 0 is none.
func comer(class criticality.Class, now, deadline time.Duration) *call {
	c := &call{class: class, arrived: at(now), entered: at(now)}
	if deadline > 0 {
		c.deadline = at(deadline)
	}
	return c
}

// crowd is a line of one slot that is taken, in which the given calls wait.
func crowd(t *testing.T, m mode, service time.Duration, calls ...*call) *line {
	t.Helper()
	l := &line{mode: m, slots: 1}
	if v, _ := l.arrive(at(0), comer(criticality.Standard, 0, 0), 1, service); v != passes {
		t.Fatalf("the first call of an idle line gets verdict %v", v)
	}
	for _, c := range calls {
		if v, dropped := l.arrive(c.entered, c, 1000, service); v != waits || dropped != nil {
			t.Fatalf("a call gets verdict %v, and %v is dropped; it should wait", v, dropped)
		}
	}
	return l
}

// turn ends the call that is past, and returns the one whose turn it is.
func turn(t *testing.T, l *line, now time.Time, service time.Duration) *call {
	t.Helper()
	l.past--
	c, v := l.next(now, now, service)
	if c != nil && v != passes {
		t.Fatalf("the next call gets verdict %v", v)
	}
	return c
}

func TestAnIdleLineLetsAsManyPassAsThereAreSlots(t *testing.T) {
	for _, m := range []mode{fifo, newestFirst} {
		l := &line{mode: m, slots: 3}
		for i := range 5 {
			v, _ := l.arrive(at(0), comer(criticality.Standard, 0, 0), 10, 50*ms)
			if want := [...]verdict{passes, passes, passes, waits, waits}[i]; v != want {
				t.Errorf("%s: call %d gets verdict %v, want %v", m, i, v, want)
			}
		}
		if l.past != 3 || l.length != 2 || l.headWait(at(7*ms)) != 7*ms {
			t.Errorf("%s: %d past, %d waiting, the first for %v", m, l.past, l.length, l.headWait(at(7*ms)))
		}
	}
}

func TestInFIFOTheClassChangesNothing(t *testing.T) {
	calls := []*call{
		comer(criticality.Sheddable, 1*ms, 0), comer(criticality.Critical, 2*ms, 0),
		comer(criticality.Standard, 3*ms, 0), comer(criticality.Critical, 4*ms, 0),
	}
	l := crowd(t, fifo, 50*ms, calls...)
	for i, want := range calls {
		if got := turn(t, l, at(time.Hour), 50*ms); got != want {
			t.Errorf("turn %d is that of a call of %v, want %v", i, got.arrived, want.arrived)
		}
	}
}

func TestNewestFirstBeginsWhenTheLineStands(t *testing.T) {
	calls := []*call{
		comer(criticality.Standard, 1*ms, 0), comer(criticality.Sheddable, 2*ms, 0), comer(criticality.Standard, 3*ms, 0),
		comer(criticality.Critical, 4*ms, 0), comer(criticality.Critical, 5*ms, 0), comer(criticality.Standard, 6*ms, 0),
	}
	const service = 5 * ms // so longest is 100 ms
	l := crowd(t, newestFirst, service, calls...)
	if got := turn(t, l, at(101*ms), service); got != calls[0] {
		t.Errorf("100 ms after the line was empty the turn is that of %v, want the oldest", got.arrived)
	}
	if p := l.patience(at(101*ms), service); p != 100*ms {
		t.Errorf("patience is %v, want 100ms", p)
	}
	if p := l.patience(at(102*ms), service); p != 5*ms {
		t.Errorf("patience in a line that stands is %v, want 5ms", p)
	}
	for i, want := range []*call{calls[4], calls[3], calls[5], calls[2], calls[1]} {
		if got := turn(t, l, at(102*ms), service); got != want {
			t.Errorf("turn %d is that of a %v call of %v, want a %v one of %v", i, got.class, got.arrived, want.class, want.arrived)
		}
	}
	// Empty, and not overloaded any more.
	l.arrive(at(200*ms), comer(criticality.Standard, 200*ms, 0), 10, service)
	if l.overloaded(at(200*ms), service) {
		t.Error("a line that was empty just now counts as standing")
	}
}

func TestShortAndLongGrowWithTheServiceTime(t *testing.T) {
	for service, want := range map[time.Duration][2]time.Duration{
		0: {5 * ms, 100 * ms}, ms: {5 * ms, 100 * ms}, 50 * ms: {50 * ms, 500 * ms},
	} {
		if got := [2]time.Duration{shortest(service), longest(service)}; got != want {
			t.Errorf("with a service time of %v they are %v, want %v", service, got, want)
		}
	}
}

// TestTheNewestIsOneWhoWasThere: a slot that was free at 200 ms, noticed at 203 ms, goes to the newest call of then.
func TestTheNewestIsOneWhoWasThere(t *testing.T) {
	there, later := comer(criticality.Standard, 199*ms, 0), comer(criticality.Critical, 202*ms, 0)
	l := crowd(t, newestFirst, 5*ms, comer(criticality.Standard, ms, 0), there, later)
	l.past--
	if c, v := l.next(at(203*ms), at(200*ms), 5*ms); c != there || v != passes {
		t.Errorf("the turn is that of %v, want the call of 199ms", c.arrived)
	}
	l.past--
	if c, _ := l.next(at(204*ms), at(0), 5*ms); c.arrived != at(ms) {
		t.Errorf("when nobody was there the turn is that of %v, want the oldest", c.arrived)
	}
}

func TestWhoCannotBeServedInTimeIsRefusedAtOnce(t *testing.T) {
	const service = 50 * ms
	for _, test := range []struct {
		mode             mode
		class            criticality.Class
		now, least, much time.Duration // a deadline of least is too short, one of much is enough
	}{
		// Two wait and one is at work: the third's turn comes after 150 ms, and takes 50.
		{fifo, criticality.Critical, 2 * ms, 202*ms - 1, 202 * ms},
		{newestFirst, criticality.Critical, 2 * ms, 202*ms - 1, 202 * ms},
		// In a line that stands only the more urgent are before it.
		{newestFirst, criticality.Critical, 600 * ms, 700*ms - 1, 700 * ms},
		{newestFirst, criticality.Standard, 600 * ms, 750*ms - 1, 750 * ms},
		{newestFirst, criticality.Sheddable, 600 * ms, 800*ms - 1, 800 * ms},
		{fifo, criticality.Critical, 600 * ms, 800*ms - 1, 800 * ms},
	} {
		l := crowd(t, test.mode, service, comer(criticality.Critical, ms, 0), comer(criticality.Standard, ms, 0))
		if v, _ := l.arrive(at(test.now), comer(test.class, test.now, test.least), 10, service); v != late || l.length != 2 {
			t.Errorf("%s, %v, at %v: %v is enough, verdict %v, %d wait", test.mode, test.class, test.now, test.least, v, l.length)
		}
		if v, _ := l.arrive(at(test.now), comer(test.class, test.now, test.much), 10, service); v != waits || l.length != 3 {
			t.Errorf("%s, %v, at %v: %v is not enough, verdict %v, %d wait", test.mode, test.class, test.now, test.much, v, l.length)
		}
	}
}

// TestWhoseTurnComesTooLateTakesNoSlot: with the turn, less than a service time is left; the slot is for the next.
func TestWhoseTurnComesTooLateTakesNoSlot(t *testing.T) {
	slow, inTime := comer(criticality.Standard, ms, 300*ms), comer(criticality.Standard, 2*ms, 0)
	l := crowd(t, fifo, 50*ms, slow, inTime)
	l.past--
	if c, v := l.next(at(250*ms+1), at(250*ms+1), 50*ms); c != slow || v != late || l.past != 0 {
		t.Errorf("the first in line gets verdict %v, %d past", v, l.past)
	}
	if c, v := l.next(at(250*ms+1), at(250*ms+1), 50*ms); c != inTime || v != passes || l.past != 1 {
		t.Errorf("the second in line gets verdict %v, %d past", v, l.past)
	}
	if c, _ := l.next(at(251*ms), at(251*ms), 50*ms); c != nil {
		t.Error("there is one more")
	}
}

func TestAFullLine(t *testing.T) {
	const service = 5 * ms
	old, urgent := comer(criticality.Standard, ms, 0), comer(criticality.Critical, 2*ms, 0)
	for name, test := range map[string]struct {
		mode    mode
		now     time.Duration
		class   criticality.Class
		want    verdict
		dropped *call
	}{
		"in order":         {fifo, time.Second, criticality.Critical, full, nil},
		"not standing yet": {newestFirst, 50 * ms, criticality.Critical, full, nil},
		"more urgent":      {newestFirst, time.Second, criticality.Critical, waits, old},
		"as urgent as the least of those waiting": {newestFirst, time.Second, criticality.Standard, waits, old},
		"less urgent than all":                    {newestFirst, time.Second, criticality.Sheddable, full, nil},
	} {
		l := crowd(t, test.mode, service, old, urgent)
		v, dropped := l.arrive(at(test.now), comer(test.class, test.now, 0), 2, service)
		if v != test.want || dropped != test.dropped || l.length != 2 {
			t.Errorf("%s: verdict %v, dropped %v, %d wait", name, v, dropped, l.length)
		}
		for l.remove(old) || l.remove(urgent) {
		}
	}
}

func TestWhoGoesAwayIsNoLongerInLine(t *testing.T) {
	calls := []*call{comer(criticality.Standard, ms, 0), comer(criticality.Standard, 2*ms, 0), comer(criticality.Standard, 3*ms, 0)}
	l := crowd(t, fifo, 50*ms, calls...)
	if !l.remove(calls[1]) || l.remove(calls[1]) || l.length != 2 {
		t.Errorf("%d wait after one went away", l.length)
	}
	for _, want := range []*call{calls[0], calls[2], nil} {
		if got := turn(t, l, at(10*ms), 50*ms); got != want {
			t.Errorf("the turn is that of %v, want %v", got, want)
		}
	}
}

// history is a line under any interleaving of what can happen to it, with what must hold after each step.
type history struct {
	t       *testing.T
	l       line
	now     time.Duration
	service time.Duration
	limit   int
	waiting map[*call]bool
	past    map[*call]bool
	passed  uint64 // the number of the last that waited and passed
}

func newHistory(t *testing.T, m mode, slots, limit int) *history {
	return &history{t: t, l: line{mode: m, slots: slots}, service: 10 * ms, limit: limit, waiting: map[*call]bool{}, past: map[*call]bool{}}
}

// step does what two bytes say: when, and what.
func (h *history) step(when, what byte) {
	h.now += time.Duration(when) * 100 * time.Microsecond
	now := at(h.now)
	switch {
	case what < 128: // one comes, with a deadline or without
		c := comer(criticality.Class(what%criticality.Classes), h.now, 0)
		if what >= 64 {
			c.deadline = now.Add(time.Duration(what) * ms)
		}
		v, dropped := h.l.arrive(now, c, h.limit, h.service)
		if dropped != nil {
			if !h.waiting[dropped] || h.l.mode == fifo || dropped.class < c.class {
				h.t.Fatalf("a %v call is dropped for a %v one in %s", dropped.class, c.class, h.l.mode)
			}
			delete(h.waiting, dropped)
		}
		switch v {
		case waits:
			h.waiting[c] = true
		case passes:
			h.past[c] = true
		case full:
			if len(h.waiting) < h.limit {
				h.t.Fatalf("full with %d of %d", len(h.waiting), h.limit)
			}
		case late:
			if c.deadline.IsZero() {
				h.t.Fatal("a call without a deadline is late")
			}
		}
	case what < 208: // one leaves
		c := first(h.past)
		if c == nil {
			return
		}
		delete(h.past, c)
		h.l.leave(c)
		h.l.leave(c) // only the first time counts
		freed := now.Add(-time.Duration(what%8) * ms)
		for {
			c, v := h.l.next(now, freed, h.service)
			if c == nil {
				break
			}
			h.turn(c, v, now)
		}
	case what < 248: // one that waits goes away
		c := first(h.waiting)
		if c != nil && !h.l.remove(c) {
			h.t.Fatal("a call that waits is not in line")
		}
		delete(h.waiting, c)
	default: // everybody is let past
		for c := h.l.release(); c != nil; c = h.l.release() {
			delete(h.waiting, c)
			h.past[c] = true
		}
		if h.l.length != 0 {
			h.t.Fatal("some are left in line")
		}
		for len(h.past) > h.l.slots {
			c := first(h.past)
			delete(h.past, c)
			h.l.leave(c)
		}
		h.passed = h.l.number
	}
	h.check()
}

func (h *history) turn(c *call, v verdict, now time.Time) {
	if !h.waiting[c] {
		h.t.Fatal("the turn is that of a call that does not wait")
	}
	delete(h.waiting, c)
	if v == late {
		if c.deadline.Sub(now) >= h.service {
			h.t.Fatalf("late with %v left", c.deadline.Sub(now))
		}
		return
	}
	h.past[c] = true
	if h.l.mode == fifo {
		if c.number <= h.passed {
			h.t.Fatalf("number %d passes after number %d", c.number, h.passed)
		}
		for w := range h.waiting {
			if w.number < c.number {
				h.t.Fatalf("number %d passes before number %d", c.number, w.number)
			}
		}
	}
	h.passed = c.number
}

func (h *history) check() {
	switch {
	case h.l.length != len(h.waiting), h.l.past != len(h.past):
		h.t.Fatalf("the line says %d wait and %d are past, it is %d and %d", h.l.length, h.l.past, len(h.waiting), len(h.past))
	case h.l.past > h.l.slots:
		h.t.Fatalf("%d are past %d slots", h.l.past, h.l.slots)
	case h.l.length > h.limit:
		h.t.Fatalf("%d wait where %d may", h.l.length, h.limit)
	case h.l.length > 0 && h.l.past < h.l.slots:
		h.t.Fatalf("%d wait beside a free slot", h.l.length)
	}
	total := 0
	for class := range h.l.classes {
		n := 0
		for c := h.l.classes[class].oldest; c != nil; c = c.next {
			if !h.waiting[c] || int(c.class) != class || c.next != nil && c.next.number <= c.number {
				h.t.Fatal("the list of a class is not in order")
			}
			n++
		}
		if n != h.l.classes[class].length {
			h.t.Fatalf("class %d has %d calls and says %d", class, n, h.l.classes[class].length)
		}
		total += n
	}
	if total != h.l.length {
		h.t.Fatalf("%d in all classes, %d in line", total, h.l.length)
	}
}

// first is the call of a set that came first, nil for an empty one: maps have no order, and a history must be the same
// each time.
func first(of map[*call]bool) (c *call) {
	for other := range of {
		if c == nil || other.entered.Before(c.entered) || other.entered.Equal(c.entered) && other.number < c.number {
			c = other
		}
	}
	return c
}

// TestWhateverHappens: never more past than slots, never more waiting than may, nobody waits beside a free slot, nobody is
// lost, and first come is first served.
func TestWhateverHappens(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		m := fifo
		if seed%2 == 1 {
			m = newestFirst
		}
		h := newHistory(t, m, 1+random.IntN(4), 1+random.IntN(20))
		for range 500 {
			h.step(byte(random.IntN(60)), byte(random.IntN(256)))
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add(false, byte(0), byte(0), []byte{0, 1, 0, 2, 9, 130, 255, 1, 1, 240, 9, 250})
	f.Add(true, byte(2), byte(5), []byte("the newest are served first when the line has not been empty for long"))
	f.Fuzz(func(t *testing.T, newest bool, slots, limit byte, steps []byte) {
		m := fifo
		if newest {
			m = newestFirst
		}
		h := newHistory(t, m, 1+int(slots%8), 1+int(limit%32))
		for i := 0; i+1 < len(steps); i += 2 {
			h.step(steps[i], steps[i+1])
		}
	})
}

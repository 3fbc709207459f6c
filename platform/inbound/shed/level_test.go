package shed

import (
	"math/rand/v2"
	"testing"
	"time"

	"spillway.dev/platform/criticality"
)

const target = 20 * time.Millisecond

// replica is a level in front of slots, in virtual time: what a server with such a station does.
type replica struct {
	level   *level
	slots   []time.Duration // when each is free
	service time.Duration
	now     time.Duration
	draws   *rand.Rand
	people  []int // the rank of each
}

// newReplica serves 160 calls a second. Of 3,000 people a tenth is critical and three tenths are sheddable.
func newReplica(seed uint64) *replica {
	r := &replica{level: newLevel(), slots: make([]time.Duration, 8), service: 50 * time.Millisecond, draws: rand.New(rand.NewPCG(seed, 1))}
	for i := range 3000 {
		class := criticality.Standard
		switch {
		case i%10 == 0:
			class = criticality.Critical
		case i%10 > 6:
			class = criticality.Sheddable
		}
		r.people = append(r.people, criticality.Rank(class, criticality.Band(r.draws.IntN(criticality.Bands))))
	}
	return r
}

func (r *replica) capacity() float64 { return float64(len(r.slots)) / r.service.Seconds() }

// outcome is what became of the calls of some time.
type outcome struct {
	offered, admitted [criticality.Classes]float64
	turned            [criticality.Classes]float64 // away by the level
	waited            time.Duration                // of those admitted, in sum
	longest           time.Duration
	span              time.Duration
}

func (o outcome) all(of [criticality.Classes]float64) (sum float64) {
	for _, n := range of {
		sum += n
	}
	return sum
}

func (o outcome) mean() time.Duration { return o.waited / time.Duration(max(1, o.all(o.admitted))) }

// offer has calls come at a rate for some time. Those that would wait for longer than a second are refused by their
// deadline, as a replica does.
func (r *replica) offer(rate float64, span time.Duration) (o outcome) {
	o.span = span
	for end := r.now + span; ; {
		r.now += time.Duration(r.draws.ExpFloat64() / rate * float64(time.Second))
		if r.now > end {
			r.now = end
			return o
		}
		first := 0
		for i, free := range r.slots {
			if free < r.slots[first] {
				first = i
			}
		}
		wait := max(0, r.slots[first]-r.now)
		rank := r.people[r.draws.IntN(len(r.people))]
		class := rank / criticality.Bands
		o.offered[class]++
		if !r.level.arrive(time.Unix(1000, 0).Add(r.now), rank, wait, target) {
			o.turned[class]++
			continue
		}
		if wait > time.Second {
			continue
		}
		o.admitted[class]++
		o.waited += wait
		o.longest = max(o.longest, wait)
		r.slots[first] = r.now + wait + r.service
	}
}

// Under overload the slots stay busy, calls wait for little longer than the target, and the least urgent are turned away.
func TestOverload(t *testing.T) {
	for _, times := range []float64{1.3, 2, 5, 10} {
		for seed := range uint64(5) {
			r := newReplica(seed)
			r.offer(0.5*r.capacity(), 5*time.Second)
			first := r.offer(times*r.capacity(), 3*time.Second)
			o := r.offer(times*r.capacity(), 20*time.Second)
			use := o.all(o.admitted) / o.span.Seconds() / r.capacity()
			t.Logf("%v ×, seed %d: %.3f of the capacity used, mean wait %v, longest %v (in the first 3 s %v, %v)", times, seed, use, o.mean(), o.longest, first.mean(), first.longest)
			if use < 0.87 || use > 1.01 {
				t.Errorf("%v ×, seed %d: %.3f of the capacity is used, want 0.87 to 1.01", times, seed, use)
			}
			// At 10 times the capacity critical calls alone are all that fits, and a wait that falls by chance spares them.
			longest := 4 * target
			if times == 10 {
				longest = 6 * target
			}
			if o.mean() > longest {
				t.Errorf("%v ×, seed %d: those admitted wait %v", times, seed, o.mean())
			}
			var share [criticality.Classes]float64
			for class := range share {
				share[class] = o.admitted[class] / o.offered[class]
			}
			// Critical calls alone fit up to 10 times the capacity.
			if times < 10 && share[criticality.Critical] < 0.99 {
				t.Errorf("%v ×, seed %d: %.3f of the critical calls are admitted", times, seed, share[criticality.Critical])
			}
			if share[criticality.Standard] > share[criticality.Critical] || share[criticality.Sheddable] > share[criticality.Standard] {
				t.Errorf("%v ×, seed %d: shares admitted are %v, want them to fall from class to class", times, seed, share)
			}
		}
	}
}

// A line that forms before the level knows of an overload is worked off by the critical calls, let in alone, as slowly as they
// leave room for. That is no reason to turn them away.
func TestCriticalStayWhileTheLineGetsShorter(t *testing.T) {
	for seed := range uint64(20) {
		r := newReplica(seed)
		r.offer(0.5*r.capacity(), 5*time.Second)
		o := r.offer(7.5*r.capacity(), 3*time.Second)
		if turned := o.turned[criticality.Critical] / o.offered[criticality.Critical]; turned > 0.01 {
			t.Errorf("seed %d: %.3f of the critical calls are turned away, which are 0.75 of the capacity", seed, turned)
		}
		if o.turned[criticality.Sheddable] < 0.9*o.offered[criticality.Sheddable] {
			t.Errorf("seed %d: %.0f of %.0f sheddable calls are turned away", seed, o.turned[criticality.Sheddable], o.offered[criticality.Sheddable])
		}
	}
}

// Without overload nobody is turned away, and after one everybody is let in again within 20 windows that hold some calls.
func TestRecovery(t *testing.T) {
	for seed := range uint64(5) {
		r := newReplica(seed)
		calm := r.offer(0.5*r.capacity(), 20*time.Second)
		if calm.offered != calm.admitted {
			t.Errorf("seed %d: of %v calls at half the capacity %v are admitted", seed, calm.offered, calm.admitted)
		}
		r.offer(10*r.capacity(), 10*time.Second)
		if r.level.admit == all {
			t.Fatal("an overload changed nothing")
		}
		r.offer(0.5*r.capacity(), 20*longest)
		after := r.offer(0.5*r.capacity(), 5*time.Second)
		if after.offered != after.admitted || r.level.admit != all {
			t.Errorf("seed %d: after the overload %v of %v are admitted, level %d", seed, after.admitted, after.offered, r.level.admit)
		}
		if took := r.recovery(); took > 5*time.Second {
			t.Errorf("seed %d: it took %v until everybody was let in", seed, took)
		}
	}
}

// recovery is how long it takes from an overload on until everybody is let in at 0.7 of the capacity.
func (r *replica) recovery() time.Duration {
	r.offer(3*r.capacity(), 10*time.Second)
	begin := r.now
	for r.level.admit < all && r.now < begin+time.Minute {
		r.offer(0.7*r.capacity(), 100*time.Millisecond)
	}
	return r.now - begin
}

// A replica that nobody called for long has nothing left of its overload.
func TestIdle(t *testing.T) {
	r := newReplica(1)
	r.offer(10*r.capacity(), 5*time.Second)
	r.now += time.Minute
	// Not so one whose slots are taken as they were.
	stuck := *r.level
	if stuck.arrive(time.Unix(1000, 0).Add(r.now), all-1, time.Second, target) {
		t.Errorf("after a minute without calls, and with a wait, the level is %d", stuck.admit)
	}
	if !r.level.arrive(time.Unix(1000, 0).Add(r.now), all-1, 0, target) {
		t.Errorf("after a minute without calls the level is %d", r.level.admit)
	}
}

// When there is nobody else left to turn away, critical calls are, and then the least urgent of them.
func TestCriticalLast(t *testing.T) {
	l := newLevel()
	now := time.Unix(1000, 0)
	// Whatever is refused, the wait stays what it is.
	reached := false
	for i := range 10_000 {
		now = now.Add(5 * time.Millisecond)
		before := l.admit
		l.arrive(now, i%all, time.Second, target)
		if before > criticality.Bands && l.admit < criticality.Bands {
			t.Fatalf("the level fell from %d to %d in one step", before, l.admit)
		}
		reached = reached || l.admit == criticality.Bands
		if l.admit < 1 {
			t.Fatalf("the level is %d: nobody could show that there is room again", l.admit)
		}
	}
	if !reached || l.admit > criticality.Bands/4 {
		t.Errorf("the level is %d, all others gone first: %v", l.admit, reached)
	}
}

// FuzzLevel has any calls come at any times with any waits. Within a window no call is refused while a less urgent one is
// admitted, and the level stays in its bounds.
func FuzzLevel(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte("\xff\xff\xff\x00\x00\x00\x80\x80\x80\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		l := newLevel()
		now := time.Unix(1000, 0)
		begin, lowest, highest := l.begin, all, -1 // of this window: the most urgent refused, the least urgent admitted
		for ; len(steps) >= 3; steps = steps[3:] {
			now = now.Add(time.Duration(int(steps[0])-16) * time.Millisecond) // arrivals are not quite in order
			rank := (int(steps[1])*256 + int(steps[2])) % all
			ok := l.arrive(now, rank, time.Duration(int(steps[2])-8)*time.Millisecond, target)
			if l.begin != begin {
				begin, lowest, highest = l.begin, all, -1
			}
			if ok {
				highest = max(highest, rank)
			} else {
				lowest = min(lowest, rank)
			}
			if lowest <= highest {
				t.Fatalf("rank %d is refused and rank %d admitted in one window", lowest, highest)
			}
			if l.admit < 1 || l.admit > all || l.mean < 0 {
				t.Fatalf("the level is %d, the mean wait %v", l.admit, l.mean)
			}
		}
	})
}

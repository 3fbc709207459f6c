package capacity

import (
	"math/rand/v2"
	"time"
)

// queue is the model: the virtual times at which the slots become free, as a min-heap. Times are offsets from an
// epoch of the owner's choice. Requests are served in the order of the admit calls.
type queue struct {
	free []time.Duration
	// work is all service time ever admitted.
	work time.Duration
	// waiting holds the start times of admitted requests that had not begun at the last call of begin. They ascend: a
	// request that has to wait starts at the earliest free time, and that never goes back.
	waiting []time.Duration
}

func newQueue(slots int) queue {
	return queue{free: make([]time.Duration, slots)}
}

// start tells when a request would begin that arrives at arrival.
func (q *queue) start(arrival time.Duration) time.Duration {
	return max(arrival, q.free[0])
}

// admit reserves the slot that becomes free first and returns when the request begins and ends.
func (q *queue) admit(arrival, service time.Duration) (start, finish time.Duration) {
	start = q.start(arrival)
	finish = start + service
	q.work += service
	q.free[0] = finish
	q.sink()
	if start > arrival {
		q.waiting = append(q.waiting, start)
	}
	return start, finish
}

// sink restores the heap after its root has grown.
func (q *queue) sink() {
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(q.free); child++ {
			if q.free[child] < q.free[least] {
				least = child
			}
		}
		if least == i {
			return
		}
		q.free[i], q.free[least] = q.free[least], q.free[i]
		i = least
	}
}

// load is what a queue looks like at one instant.
type load struct {
	// busy is the number of slots at work.
	busy int
	// queued is the number of admitted requests that have not begun.
	queued int
	// worked is the service time done so far, over all slots.
	worked time.Duration
}

// begin lets go of the requests that have begun by now. It costs the owner nothing to call it often, and memory not to.
func (q *queue) begin(now time.Duration) {
	begun := 0
	for begun < len(q.waiting) && q.waiting[begun] <= now {
		begun++
	}
	q.waiting = q.waiting[begun:]
}

// load tells the state at now, which must not lie before an earlier now or before an arrival. A slot whose free time
// lies ahead is busy from now until then without a gap, so the work that is left is the sum of those distances.
func (q *queue) load(now time.Duration) load {
	q.begin(now)
	at := load{queued: len(q.waiting), worked: q.work}
	for _, free := range q.free {
		if free > now {
			at.busy++
			at.worked -= free - now
		}
	}
	return at
}

// source draws service times; equal seeds give equal sequences.
type source struct {
	mean        time.Duration
	exponential bool
	random      *rand.Rand
}

func newSource(mean time.Duration, distribution Distribution, seed uint64) source {
	return source{
		mean:        mean,
		exponential: distribution == Exponential,
		random:      newRandom(seed, 0x9e3779b97f4a7c15),
	}
}

func (s *source) draw() time.Duration {
	if !s.exponential {
		return s.mean
	}
	return time.Duration(s.random.ExpFloat64() * float64(s.mean))
}

// newRandom returns the generator of one stream of one seed. The seed goes into the low word: generators whose low
// words are equal stay related, so that neighbouring seeds would not be independent.
func newRandom(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(stream, seed^stream))
}

// pace is by how much service times are stretched: a slow-down that somebody sets, times the cold of a replica that has
// just started. Times are offsets from the owner's epoch.
type pace struct {
	slowdown   float64
	coldFactor float64
	coldFor    time.Duration
	// started is when the cold began to fade, once begun is true.
	started time.Duration
	begun   bool
}

// at is the factor for a request that is admitted at now. The cold falls in a straight line: from coldFactor when the
// replica has started, and before, to 1 when coldFor is over.
func (p pace) at(now time.Duration) float64 {
	if p.coldFor <= 0 || p.coldFactor <= 1 {
		return p.slowdown
	}
	cold := 1.0
	if p.begun {
		cold = max(0, 1-float64(max(0, now-p.started))/float64(p.coldFor))
	}
	return p.slowdown * (1 + (p.coldFactor-1)*cold)
}

// stretch is a service time at a pace. At pace 1 it is the same to the nanosecond.
func stretch(service time.Duration, factor float64) time.Duration {
	if factor == 1 {
		return service
	}
	return time.Duration(float64(service) * factor)
}

package admission

import (
	"time"

	"spillway.dev/platform/criticality"
)

const (
	// period is the time between two decisions, and the time over which a callee measures the pressure that it tells.
	period = time.Second
	// target is the pressure that is aimed at. A little room is left, since calls do not come evenly.
	target = 0.95
	// rise is by how much, as a part of all calls, more may be let in from one decision to the next.
	rise = 0.1
	// least is what is always let in: without an answer now and then nobody would hear that there is room again.
	least = 0.02
)

// valve decides for one route. All times are arguments; it is not safe for concurrent use.
type valve struct {
	// open is the part of the calls that is let in, least to 1; was is what it was in the period before.
	open, was float64
	// ranks is how many ranks of priority are let in, by open and how the calls of the last period were spread.
	ranks int

	begin time.Time
	// sum and squares are of the demands that the answers of this period told of: the pressure that there would be if all
	// calls were let in.
	sum, squares float64
	calls        [criticality.Ranks]int
	n            int
}

func newValve() *valve { return &valve{open: 1, was: 1, ranks: criticality.Ranks} }

// admit decides on a call of a rank that comes at now.
func (v *valve) admit(now time.Time, rank int) bool {
	if v.begin.IsZero() {
		v.begin = now
	}
	if now.Sub(v.begin) >= period {
		v.decide()
		v.begin = now
	}
	v.calls[rank]++
	v.n++
	return rank < v.ranks
}

// hear takes note of a pressure that an answer brought at now. It is that of the calls of the last period: in part of those
// that were let in before the last decision. Taken for the effect of that decision, what had gone before would be
// answered twice, and a rush by letting in nearly nobody.
func (v *valve) hear(now time.Time, pressure float64) {
	since := min(1, max(0, float64(now.Sub(v.begin))/float64(period)))
	demand := pressure / (since*v.open + (1-since)*v.was)
	v.sum += demand
	v.squares += demand * demand
}

// decide ends a period.
func (v *valve) decide() {
	v.was, v.open = v.open, next(v.open, v.demand())
	v.ranks = spread(&v.calls, v.n, v.open)
	v.sum, v.squares, v.n = 0, 0, 0
	clear(v.calls[:])
}

// demand is the mean of what was heard, in which an answer counts as much as it is pressed: the few calls of a route that
// came to a drowning dependency are not lost among many that did not, and chance counts for less than in the highest of
// all. 0 stands for nothing heard.
func (v *valve) demand() float64 {
	if v.sum == 0 {
		return 0
	}
	return v.squares / v.sum
}

// next is the part of the calls to let in, after a period in which open was let in and answers told of demand: of all that
// were offered, over what the tightest dependency can serve.
func next(open, demand float64) float64 {
	if demand == 0 {
		return min(1, open+rise)
	}
	return min(1, open+rise, max(least, target/demand))
}

// spread is the number of ranks to let in so that a part open of calls like the n last ones gets in; the rank in which
// the part ends is let in.
func spread(calls *[criticality.Ranks]int, n int, open float64) int {
	if open >= 1 || n == 0 {
		return criticality.Ranks
	}
	want, sum := open*float64(n), 0.0
	for rank, c := range calls {
		if sum += float64(c); c > 0 && sum >= want {
			return rank + 1
		}
	}
	return criticality.Ranks
}

package admission

import (
	"time"

	"spillway.dev/platform/criticality"
)

const (
	// period is the time between two decisions. Pressure is measured over a second: who decided more often would act again
	// before the effect of the last decision is in the measure.
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
	// open is the part of the calls that is let in, least to 1.
	open float64
	// ranks is how many ranks of priority are let in, by open and how the calls of the last period were spread.
	ranks int

	begin time.Time
	// sum and squares are of the pressures that the answers of this period brought.
	sum, squares float64
	calls        [criticality.Ranks]int
	n            int
}

func newValve() *valve { return &valve{open: 1, ranks: criticality.Ranks} }

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

// hear takes note of a pressure that an answer brought.
func (v *valve) hear(pressure float64) {
	v.sum += pressure
	v.squares += pressure * pressure
}

// decide ends a period.
func (v *valve) decide() {
	v.open = next(v.open, v.pressure())
	v.ranks = spread(&v.calls, v.n, v.open)
	v.sum, v.squares, v.n = 0, 0, 0
	clear(v.calls[:])
}

// pressure is the mean of what was heard, in which an answer counts as much as it is pressed: the few calls of a route that
// came to a drowning dependency are not lost among many that did not, and chance counts for less than in the highest of
// all. 0 stands for nothing heard.
func (v *valve) pressure() float64 {
	if v.sum == 0 {
		return 0
	}
	return v.squares / v.sum
}

// next is the part of the calls to let in, after a period in which open was let in and pressure came of it.
func next(open, pressure float64) float64 {
	if pressure == 0 {
		return min(1, open+rise)
	}
	return min(1, open+rise, max(least, open*target/pressure))
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

package shed

import (
	"time"

	"spillway.dev/platform/criticality"
)

const (
	// alpha is the least share of the admitted calls that a step down turns away, beta the share of all calls by which the
	// first step up lets in more. Both are DAGOR's.
	alpha = 0.05
	beta  = 0.01
	// A window ends after shortest if enough calls came in it, and after longest anyhow.
	shortest = 100 * time.Millisecond
	longest  = time.Second
	enough   = 20
	// keep is the share of the histogram that is kept from one window to the next. Some windows together hold enough calls
	// to tell how priorities are spread.
	keep = 0.8
	// settle is the time within which a wait that falls must be on its way to the target for the level to stay; and the time
	// that critical calls, let in alone, have to make it fall at all.
	settle = time.Second
	// slope is the part of the wait that may be left after settle for it to count as falling when critical calls are let in alone.
	slope = 0.9
	// severe is how many targets a mean wait must be for its growth to count. Below that it is mostly chance: calls do not
	// come evenly, and of the few of a window now more and now less.
	severe = 4
	// all is the level at which nobody is turned away.
	all = criticality.Ranks
)

// level decides whom to admit: the calls whose rank is below it. All times are arguments; it is not safe for concurrent
// use.
type level struct {
	// admit is the number of ranks that are let in, 1 to all.
	admit int
	// calls is how many calls of each rank came lately, those longer ago counting less.
	calls [all]float64

	begin time.Time // of this window; zero before the first call
	n     int       // calls in this window
	waits time.Duration
	// mean is the mean wait in the last window.
	mean time.Duration
	// calm is how many windows in a row were without overload.
	calm int
	// alone is since when critical calls have been let in alone, or since the wait was last seen to fall with them; zero
	// when there are others. lone is the mean wait then.
	alone time.Time
	lone  time.Duration
}

func newLevel() *level { return &level{admit: all} }

// arrive decides on a call that comes at now, when the wait for a slot is wait.
func (l *level) arrive(now time.Time, rank int, wait, target time.Duration) bool {
	if l.begin.IsZero() {
		l.begin = now
	}
	if span := now.Sub(l.begin); span >= longest || span >= shortest && l.n >= enough {
		// After a time without calls those before them have been served, unless there is still a wait.
		l.end(now, span, target, span >= 2*longest && wait <= target)
	}
	l.n++
	l.waits += max(0, wait)
	l.calls[rank]++
	return rank < l.admit
}

// end closes a window that lasted for span and moves the level. After an idle one there is nothing left of what was before.
func (l *level) end(now time.Time, span, target time.Duration, idle bool) {
	before, mean := l.mean, time.Duration(0)
	if !idle {
		mean = l.waits / time.Duration(max(1, l.n))
	}
	switch grown := mean - before; {
	case mean <= target:
		l.calm++
		l.up(idle)
	case l.calm == 0 && grown < 0 && -grown.Seconds() >= (before-target).Seconds()*min(1, span.Seconds()/settle.Seconds()):
		// On its way down, and fast enough.
	default:
		l.calm = 0
		if mean < severe*target {
			grown = 0
		}
		if !l.falls(now, mean) {
			l.down(max(0, grown.Seconds()/span.Seconds()))
		}
	}
	l.begin, l.n, l.waits, l.mean = now, 0, 0, mean
	for rank := range l.calls {
		l.calls[rank] *= keep
	}
}

// falls tells whether what is let in is critical alone, and the wait is to be given time to fall with that, however slowly:
// what was let in before has yet to be served, and is no reason to turn critical calls away that could be served after it.
func (l *level) falls(now time.Time, mean time.Duration) bool {
	switch {
	case l.admit > criticality.Bands:
		l.alone = time.Time{}
		return false
	case l.alone.IsZero(), now.Sub(l.alone) >= settle && mean.Seconds() < slope*l.lone.Seconds():
		l.alone, l.lone = now, mean
		return true
	}
	return now.Sub(l.alone) < settle
}

// down turns away alpha of the calls that are admitted, and more when the wait has grown by growth seconds a second: then
// 1 + growth times as much was admitted as could be served. Critical calls are turned away only by a step of its own, once
// there is nobody else to turn away.
func (l *level) down(growth float64) {
	lowest := 1
	if l.admit > criticality.Bands {
		lowest = criticality.Bands
	}
	admitted := l.below(l.admit)
	for want := admitted * (1 - alpha) / (1 + growth); l.admit > lowest && admitted > want; {
		l.admit--
		admitted -= l.calls[l.admit]
	}
}

// up lets in beta of all calls more, twice and three times that and so on from one calm window to the next.
func (l *level) up(idle bool) {
	total := l.below(all)
	if idle || total == 0 {
		l.admit = all
		return
	}
	admitted := l.below(l.admit)
	for want := admitted + float64(l.calm)*beta*total; l.admit < all && admitted < want; {
		admitted += l.calls[l.admit]
		l.admit++
	}
}

// below is how many of the late calls have a rank below rank.
func (l *level) below(rank int) (sum float64) {
	for _, n := range l.calls[:rank] {
		sum += n
	}
	return sum
}

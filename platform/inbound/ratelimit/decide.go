package ratelimit

import (
	"math"
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/gcra"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// personBurst is how long a person may save up calls for: a page makes several at once.
const personBurst = 5 * time.Second

// What the two limits are called where they are counted, and the first's key.
const (
	service = "service"
	person  = "person"
)

// limits is what the knobs come to.
type limits struct {
	global bool
	all    gcra.Limit
	leave  [criticality.Classes]time.Duration
	each   gcra.Limit // of one person; the zero value: none
}

// settings are the knobs' values.
type settings struct {
	mode            string
	perSecond       float64
	burst           int64
	reserve         float64
	personPerSecond float64
}

// limits gives nil when nothing is limited.
func (s settings) limits() *limits {
	if s.mode == modeOff {
		return nil
	}
	burst := float64(s.burst)
	if burst == 0 {
		burst = s.perSecond
	}
	l := &limits{global: s.mode == modeGlobal, all: gcra.PerSecond(s.perSecond, burst)}
	for class := range l.leave {
		// Whole calls, so that a burst that is too small to be divided is open to all.
		calls := math.Floor(float64(class) * s.reserve * burst)
		l.leave[class] = time.Duration(calls * float64(l.all.Interval))
	}
	if s.personPerSecond > 0 {
		l.each = gcra.PerSecond(s.personPerSecond, s.personPerSecond*personBurst.Seconds())
	}
	return l
}

// asks is what one call must keep: the service's limit, and its person's where that is known.
func (l *limits) asks(class criticality.Class, who string) (asks [2]gcra.Ask, n int) {
	asks[0] = gcra.Ask{Key: service, Limit: l.all, Leave: l.leave[min(class, criticality.Classes-1)]}
	if who == "" || l.each.Interval == 0 {
		return asks, 1
	}
	asks[1] = gcra.Ask{Key: who, Limit: l.each}
	return asks, 2
}

// steps are the times that refused calls are told to wait: of each the first that is enough. So there is one answer for
// each, made once, and not one for each call.
var steps = [...]time.Duration{
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, time.Hour,
}

// answers are by limit and step.
var answers = func() (all [2][len(steps)]*problem.Problem) {
	for i, after := range steps {
		all[0][i] = limited(service, after, "more calls come than this service takes; try again after the given time")
		all[1][i] = limited(person, after, "more calls come with this session than with one may; try again after the given time")
	}
	return all
}()

func limited(limit string, after time.Duration, message string) *problem.Problem {
	return problem.New(codes.ResourceExhausted, problem.RateLimited, "%s", message).
		With(refusal.ByKey, name).With("limit", limit).Retry(after).Prepared()
}

// answer is what a call gets that is refused by a limit and would be let in after wait.
func answer(by int, wait time.Duration) *problem.Problem {
	i := 0
	for i < len(steps)-1 && steps[i] < wait {
		i++
	}
	return answers[by][i]
}

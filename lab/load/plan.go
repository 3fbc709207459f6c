package load

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Plan says what load to offer. It is the `load:` of a scenario and the file of
// `spillway load --plan`. The same Plan gives the same schedule, byte for byte.
type Plan struct {
	// Shape is the rate over time.
	Shape Shape `yaml:"shape" json:"shape"`
	// For is how long journeys begin; those under way then are waited for.
	For time.Duration `yaml:"for" json:"for"`
	// Arrivals is Poisson (the default, also when empty) or Constant.
	Arrivals Arrivals `yaml:"arrivals" json:"arrivals,omitempty"`
	// Journeys are what people come for, by the names browse, seatmap, buy and
	// list. One that is not named is not made; none at all means DefaultJourneys.
	Journeys map[string]Journey `yaml:"journeys" json:"journeys,omitempty"`
	// People is how many different people come; each signs in at the first
	// journey that needs a session, which is any but list, and keeps it. 0 means
	// DefaultPeople.
	People int `yaml:"people" json:"people,omitempty"`
	// Priorities are the shares of critical, standard and sheddable people, and
	// of their journeys, which add up to 1; none at all means that everybody is
	// standard.
	Priorities map[string]float64 `yaml:"priorities" json:"priorities,omitempty"`

	// Timelapse divides every duration of the shape and For: a nominal second
	// takes 1/Timelapse real seconds. Rates are per real second and deadlines
	// are real: neither is divided. 0 counts as 1.
	Timelapse float64 `yaml:"-" json:"timelapse,omitempty"`
	// Seed fixes who arrives when to do what.
	Seed uint64 `yaml:"-" json:"seed"`
}

// Journey is how often people come for something and how long they wait.
type Journey struct {
	// Share of all journeys, 0 to 1; the shares add up to 1.
	Share float64 `yaml:"share" json:"share"`
	// Deadline is how long a person waits, from the intended begin of the
	// journey, in real time. 0 means 2 s, and 5 s to buy: that leaves room for
	// the modelled service times of every hop, six of them for a purchase.
	Deadline time.Duration `yaml:"deadline" json:"deadline,omitempty"`
}

// Arrivals is the law of the gaps between arrivals.
type Arrivals string

// The kinds of arrivals.
const (
	// Poisson arrivals come independently of each other, as people do.
	Poisson Arrivals = "poisson"
	// Constant arrivals come as evenly as the shape allows.
	Constant Arrivals = "constant"
)

// DefaultPeople come when a plan does not say how many.
const DefaultPeople = 200

// DefaultJourneys is the mix of an ordinary day.
func DefaultJourneys() map[string]Journey {
	return map[string]Journey{"browse": {Share: 0.8}, "buy": {Share: 0.2}}
}

// Default offers the mix of an ordinary day at a constant rate for a minute.
func Default() Plan {
	return Plan{
		Shape:    Shape{Kind: "constant", Rate: 100},
		For:      time.Minute,
		Arrivals: Poisson,
		Journeys: DefaultJourneys(),
		People:   DefaultPeople,
		Seed:     2,
	}
}

// shareSlack is how far shares may be from 1 in sum: three thirds written with
// three digits are all right.
const shareSlack = 0.002

// longestDeadline bounds how long a journey may be under way.
const longestDeadline = time.Minute

// Validate names every setting that makes no sense. The errors are joined; each
// text begins with the path of its setting, such as shape.rate.
func (p Plan) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := p.Shape.Validate(); err != nil {
		faults = append(faults, err)
	} else if p.For > 0 && !(p.Shape.integral()(p.For.Seconds()) > 0) {
		fault("shape offers nothing within the %s of `for`", p.For)
	}
	if p.For <= 0 {
		fault("for is %s; give a duration above 0, such as 60s", p.For)
	}
	switch p.Arrivals {
	case "", Poisson, Constant:
	default:
		fault("arrivals is %q; give %q or %q", p.Arrivals, Poisson, Constant)
	}
	if p.People < 0 {
		fault("people is %d; at least 1 has to come", p.People)
	}
	if p.Timelapse != 0 && !(p.Timelapse >= 1 && p.Timelapse <= 1000) {
		fault("timelapse is %v; give a factor from 1 to 1000", p.Timelapse)
	}
	shares := make(map[string]float64)
	for name, j := range p.Journeys {
		shares[name] = j.Share
		if j.Deadline < 0 || j.Deadline > longestDeadline {
			fault("journeys.%s.deadline is %s; give a duration above 0 and up to %s", name, j.Deadline, longestDeadline)
		}
	}
	if n := len(p.Priorities); p.People > 0 && p.People < n {
		fault("people is %d; priorities names %d classes of them, and of each at least 1 has to come", p.People, n)
	}
	faults = append(faults, checkShares("journeys", shares, kindNames[:]), checkShares("priorities", p.Priorities, priorityNames[:]))
	return errors.Join(faults...)
}

// checkShares wants known names and shares that add up to 1; none at all is all
// right.
func checkShares(what string, shares map[string]float64, known []string) error {
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s.%s is not known; give one of %s", what, name, strings.Join(known, ", "))
		}
		share := shares[name]
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%s.%s has the share %v; give 0 to 1", what, name, share)
		}
		sum += share
	}
	if len(shares) > 0 && math.Abs(sum-1) > shareSlack {
		return fmt.Errorf("%s have shares that add up to %.4g; make them add up to 1", what, sum)
	}
	return nil
}

// withDefaults is the plan with everything said that it leaves out.
func (p Plan) withDefaults() Plan {
	if p.Arrivals == "" {
		p.Arrivals = Poisson
	}
	if p.People == 0 {
		p.People = DefaultPeople
	}
	if p.Timelapse == 0 {
		p.Timelapse = 1
	}
	if len(p.Journeys) == 0 {
		p.Journeys = DefaultJourneys()
	}
	p.Journeys = maps.Clone(p.Journeys)
	for name, j := range p.Journeys {
		if j.Deadline == 0 {
			j.Deadline = 2 * time.Second
			if name == Buy.String() {
				j.Deadline = 5 * time.Second
			}
			p.Journeys[name] = j
		}
	}
	if len(p.Priorities) == 0 {
		p.Priorities = map[string]float64{Standard.String(): 1}
	}
	return p
}

// Real is how long the plan offers load in real time.
func (p Plan) Real() time.Duration { return time.Duration(float64(p.For) / max(p.Timelapse, 1)) }

// deadlines are what Journeys say, by kind, with defaults.
func (p Plan) deadlines() (by [kinds]time.Duration) {
	for k := range kinds {
		by[k] = p.Journeys[k.String()].Deadline
	}
	return by
}

// meanRate is the rate that the plan intends, averaged over its time.
func (p Plan) meanRate() float64 { return p.Shape.integral()(p.For.Seconds()) / p.For.Seconds() }

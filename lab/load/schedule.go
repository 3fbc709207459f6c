package load

import (
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// Kind is what a person comes for.
type Kind uint8

// The journeys.
const (
	// Browse lists the shows and looks at the seat map of one.
	Browse Kind = iota
	// SeatMap looks at the seat map of a show whose name the person knows.
	SeatMap
	// Buy checks out one or two seats.
	Buy
	// List lists the shows, for which nobody needs a session.
	List
	kinds
)

var kindNames = [kinds]string{"browse", "seatmap", "buy", "list"}

// String is the journey's name in plans and reports.
func (k Kind) String() string { return kindNames[k] }

// Priority is how much a journey matters when not all can be served.
type Priority uint8

// The priorities.
const (
	// Critical journeys are shed last.
	Critical Priority = iota
	// Standard is what nobody has said anything about.
	Standard
	// Sheddable journeys are shed first.
	Sheddable
	priorities
)

var priorityNames = [priorities]string{"critical", "standard", "sheddable"}

// String is the priority's name in plans, reports and people's names.
func (p Priority) String() string { return priorityNames[p] }

// Arrival is one journey of the schedule.
type Arrival struct {
	// Number counts arrivals from 0 on.
	Number int
	// At is when the journey is meant to begin, in real time since the start of
	// the load.
	At time.Duration
	// Kind is what the person comes for.
	Kind Kind
	// Priority is that of the person, in all journeys.
	Priority Priority
	// Person is 0 to Plan.People-1. Those of one priority have neighbouring
	// numbers, the most urgent first.
	Person int
	// Draw decides what is left to chance within the journey.
	Draw uint64
}

// Schedule is who arrives when, in order of time. It depends on the plan alone,
// which has to be valid.
//
// Arrivals of a rate that varies are had by a change of time: with Λ(t) the
// rate integrated from 0 to t, the times Λ⁻¹(S₁), Λ⁻¹(S₂), … of a Poisson
// process S of rate 1 are a non-homogeneous Poisson process of that rate,
// exactly (E. Çinlar, Introduction to Stochastic Processes, Prentice-Hall 1975;
// P. A. W. Lewis and G. S. Shedler, Simulation of nonhomogeneous Poisson
// processes by thinning, Naval Research Logistics Quarterly 26, 1979, who set
// thinning beside it). With S = ½, 1½, … the same gives arrivals that are as
// even as the shape allows.
func (p Plan) Schedule() iter.Seq[Arrival] {
	p = p.withDefaults()
	kind := newWheel(kindNames[:], func(name string) float64 { return p.Journeys[name].Share })
	priority := newWheel(priorityNames[:], func(name string) float64 { return p.Priorities[name] })
	of := p.classes()
	return func(yield func(Arrival) bool) {
		// Times have a stream of their own, so that two plans of one seed that
		// differ in people or mix only have the same times. The second words keep
		// the streams apart.
		times := rand.New(rand.NewPCG(p.Seed, 0x5b111a1))
		draws := rand.New(rand.NewPCG(p.Seed, 0x5b111a2))
		clock := p.instants()
		for n, target := 0, 0.0; ; n++ {
			if p.Arrivals == Constant {
				target = float64(n) + 0.5
			} else {
				target += times.ExpFloat64() // the gaps of a Poisson process are exponential
			}
			at, ok := clock.next(target)
			if !ok {
				return
			}
			a := Arrival{Number: n, At: at, Person: draws.IntN(p.People), Draw: draws.Uint64()}
			a.Kind = Kind(kind.pick(draws.Float64()))
			a.Priority = Priority(priority.pick(draws.Float64()))
			a.Person = of[a.Priority].person(a.Person, p.People)
			if !yield(a) {
				return
			}
		}
	}
}

// class is the people of one priority: numbers from first on.
type class struct{ first, size int }

// classes divides people by the shares of their priorities, at least one to
// each that has a share.
func (p Plan) classes() (of [priorities]class) {
	wanted, sum := 0, 0.0
	for _, name := range priorityNames {
		if p.Priorities[name] > 0 {
			wanted, sum = wanted+1, sum+p.Priorities[name]
		}
	}
	first, upTo := 0, 0.0
	for i, name := range priorityNames {
		if p.Priorities[name] <= 0 {
			continue
		}
		wanted-- // how many come after this one
		upTo += p.Priorities[name]
		last := int(math.Round(upTo / sum * float64(p.People)))
		last = min(max(last, first+1), p.People-wanted)
		of[i] = class{first, last - first}
		first = last
	}
	return of
}

// person turns one of all, evenly chosen, into one of the class.
func (c class) person(one, all int) int { return c.first + one*c.size/all }

// wheel picks by share.
type wheel struct {
	upTo []float64 // running sums of shares, by index
	last int       // the last with a share: takes what rounding leaves over
}

func newWheel(names []string, share func(string) float64) wheel {
	w := wheel{upTo: make([]float64, len(names))}
	sum := 0.0
	for i, name := range names {
		if s := share(name); s > 0 {
			sum, w.last = sum+s, i
		}
		w.upTo[i] = sum
	}
	return w
}

// pick turns u, uniform in [0, 1), into an index.
func (w wheel) pick(u float64) int {
	for i, upTo := range w.upTo {
		if u < upTo {
			return i
		}
	}
	return w.last
}

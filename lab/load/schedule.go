package load

import (
	"iter"
	"math/rand/v2"
	"time"
)

// Kind is what a person comes for.
type Kind uint8

// The journeys.
const (
	// Browse lists the shows and looks at the seat map of one.
	Browse Kind = iota
	// Buy checks out one or two seats.
	Buy
	kinds
)

// String is the journey's name in reports.
func (k Kind) String() string {
	if k == Buy {
		return "buy"
	}
	return "browse"
}

// Arrival is one journey of the schedule.
type Arrival struct {
	// Number counts arrivals from 0 on.
	Number int
	// At is when the journey is meant to begin, since the start of the load.
	At time.Duration
	// Kind is what the person comes for.
	Kind Kind
	// Person is 0 to Config.People-1.
	Person int
	// Draw decides what is left to chance within the journey.
	Draw uint64
}

// Arrivals is the schedule: a Poisson process of c.Rate over c.For. It depends
// on c alone.
func (c Config) Arrivals() iter.Seq[Arrival] {
	return func(yield func(Arrival) bool) {
		// The second word keeps this stream apart from others of the same seed.
		rng := rand.New(rand.NewPCG(c.Seed, 0x5b111a1))
		at := time.Duration(0)
		for n := 0; ; n++ {
			// The gaps of a Poisson process are exponential.
			at += time.Duration(rng.ExpFloat64() / c.Rate * float64(time.Second))
			a := Arrival{Number: n, At: at, Person: rng.IntN(c.People), Draw: rng.Uint64()}
			if rng.Float64() < c.BuyRatio {
				a.Kind = Buy
			}
			if at >= c.For || !yield(a) {
				return
			}
		}
	}
}

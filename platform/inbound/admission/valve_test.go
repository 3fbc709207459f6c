package admission

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"spillway.dev/platform/backpressure"
	"spillway.dev/platform/criticality"
)

// plant is a dependency that serves capacity calls a second of a route that is offered load. It measures its pressure as
// services do, and tells it at once.
type plant struct {
	valve    *valve
	meter    backpressure.Meter
	now      time.Time
	rng      *rand.Rand
	capacity float64
}

// second offers load calls for a second and tells how many of each class were let in and offered.
func (p *plant) second(load int, classes [criticality.Classes]float64) (in, offered [criticality.Classes]int) {
	for i := range load {
		class, draw := criticality.Class(0), p.rng.Float64()
		for draw >= classes[class] {
			draw -= classes[class]
			class++
		}
		offered[class]++
		at := p.now.Add(time.Duration((float64(i) + p.rng.Float64()) * float64(time.Second) / float64(load)))
		if p.valve.admit(at, criticality.Rank(class, criticality.Band(p.rng.IntN(criticality.Bands)))) {
			in[class]++
			p.meter.Count(at)
			p.valve.hear(at, max(0, (1+0.16*p.rng.NormFloat64())*p.meter.Rate(at)/p.capacity))
		}
	}
	p.now = p.now.Add(time.Second)
	return in, offered
}

func sum(of [criticality.Classes]int) int { return of[0] + of[1] + of[2] }

func TestTheEdgeLetsInWhatCanBeServed(t *testing.T) {
	shares := [criticality.Classes]float64{0.2, 0.5, 0.3}
	for _, load := range []int{50, 150, 300, 1000, 3000} {
		p := &plant{valve: newValve(), now: time.Unix(1000, 0), rng: rand.New(rand.NewPCG(1, uint64(load))), capacity: 100}
		var in, offered [criticality.Classes]int
		for range 10 { // it begins with everybody let in
			p.second(load, shares)
		}
		for range 20 {
			i, o := p.second(load, shares)
			for c := range i {
				in[c] += i[c]
				offered[c] += o[c]
			}
		}
		got, want := float64(sum(in))/20, math.Min(float64(load), 100*target)
		if got < 0.88*want || got > 1.1*want {
			t.Errorf("offered %d/s of 100/s: %.0f let in, want about %.0f", load, got, want)
		}
		// Whoever is less urgent is turned away first: a class is served only where the one before it is.
		for c := 1; c < criticality.Classes; c++ {
			if before := float64(in[c-1]) / float64(offered[c-1]); float64(in[c]) > 0.02*float64(offered[c])*20 && before < 0.9 && float64(in[c])/float64(offered[c]) > 0.1 {
				t.Errorf("offered %d/s: of class %d %d of %d are let in while of class %d %.2f are", load, c, in[c], offered[c], c-1, before)
			}
		}
	}
}

func TestCriticalPeopleAreServedWhileTheyFit(t *testing.T) {
	p := &plant{valve: newValve(), now: time.Unix(1000, 0), rng: rand.New(rand.NewPCG(7, 7)), capacity: 100}
	shares := [criticality.Classes]float64{0.05, 0.45, 0.5} // 50/s of 1,000/s are critical
	for range 10 {
		p.second(1000, shares)
	}
	in, offered := 0, 0
	for range 30 {
		i, o := p.second(1000, shares)
		in, offered = in+i[criticality.Critical], offered+o[criticality.Critical]
	}
	if float64(in) < 0.99*float64(offered) {
		t.Errorf("%d of %d critical calls are let in, want 99 %%", in, offered)
	}
}

func TestARushTurnsNobodyCriticalAway(t *testing.T) {
	in, offered := 0, 0
	for seed := range uint64(20) {
		p := &plant{valve: newValve(), now: time.Unix(1000, 0), rng: rand.New(rand.NewPCG(seed, 11)), capacity: 80}
		p.now = p.now.Add(time.Duration(p.rng.Int64N(int64(period)))) // nothing tells the valve when a rush begins
		shares := [criticality.Classes]float64{0.25, 0.4, 0.35}
		for range 5 {
			p.second(24, shares)
		}
		late := 0
		for s := range 10 { // 60/s of 240/s are critical, and fit; as many others as fit besides
			i, o := p.second(240, shares)
			in, offered = in+i[criticality.Critical], offered+o[criticality.Critical]
			if s >= 2 {
				late += sum(i)
			}
		}
		if got := float64(late) / 8; got < 0.88*80*target || got > 1.1*80*target {
			t.Errorf("seed %d: %.0f/s are let in from the third second on, want about %.0f", seed, got, 80*target)
		}
	}
	if float64(in) < 0.99*float64(offered) {
		t.Errorf("in the first ten seconds of 20 rushes %d of %d critical calls are let in, want 99 %%", in, offered)
	}
}

func TestAnEdgeOpensAgain(t *testing.T) {
	p := &plant{valve: newValve(), now: time.Unix(1000, 0), rng: rand.New(rand.NewPCG(3, 3)), capacity: 100}
	all := [criticality.Classes]float64{0, 1, 0}
	for range 10 {
		p.second(2000, all)
	}
	if p.valve.open > 0.1 {
		t.Fatalf("at 20 times the load %.2f is let in", p.valve.open)
	}
	for range 12 {
		p.second(50, all)
	}
	if p.valve.open != 1 {
		t.Errorf("12 s after the rush %.2f is let in, want all", p.valve.open)
	}
	if in, offered := p.second(50, all); in != offered {
		t.Errorf("let in %v of %v", in, offered)
	}
}

func FuzzNextStaysWithinItsBounds(f *testing.F) {
	f.Add(1.0, 2.0)
	f.Add(0.02, 1000.0)
	f.Add(0.5, 0.0)
	f.Fuzz(func(t *testing.T, open, demand float64) {
		if !(open >= least && open <= 1) || !(demand >= 0 && demand <= 1000/least) {
			return // never so
		}
		got := next(open, demand)
		if !(got >= least && got <= 1) {
			t.Fatalf("next(%v, %v) = %v", open, demand, got)
		}
		if open*demand > target && got > open {
			t.Fatalf("next(%v, %v) = %v: opened under pressure", open, demand, got)
		}
	})
}

func TestSpread(t *testing.T) {
	var calls [criticality.Ranks]int
	calls[10], calls[200], calls[300] = 50, 30, 20
	for _, c := range []struct {
		open float64
		want int
	}{{1, criticality.Ranks}, {0.9, 301}, {0.8, 201}, {0.5, 11}, {0.02, 11}} {
		if got := spread(&calls, 100, c.open); got != c.want {
			t.Errorf("of %v: %d ranks, want %d", c.open, got, c.want)
		}
	}
	if got := spread(&calls, 0, 0.5); got != criticality.Ranks {
		t.Errorf("nobody came: %d ranks", got)
	}
}

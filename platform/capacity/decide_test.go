package capacity

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestQueueServesInOrder compares the heap with the definition: the next request takes whichever slot is free first.
func TestQueueServesInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, slots := range []int{1, 2, 3, 8, 17} {
		queue := newQueue(slots)
		free := make([]time.Duration, slots)
		var now time.Duration
		for range 5_000 {
			now += time.Duration(random.IntN(100))
			service := time.Duration(random.IntN(100 * slots))
			first := 0
			for i := range free {
				if free[i] < free[first] {
					first = i
				}
			}
			wantStart := max(now, free[first])
			free[first] = wantStart + service
			start, finish := queue.admit(now, service)
			if start != wantStart || finish != wantStart+service {
				t.Fatalf("%d slots, arrival %v: got [%v, %v], want [%v, %v]", slots, now, start, finish, wantStart, wantStart+service)
			}
		}
	}
}

// TestLoad compares what is derived from the free times with a count over every visit.
func TestLoad(t *testing.T) {
	type visit struct{ start, finish time.Duration }
	random := rand.New(rand.NewPCG(3, 4))
	for _, slots := range []int{1, 4} {
		queue := newQueue(slots)
		var visits []visit
		var now time.Duration
		for range 2_000 {
			now += time.Duration(random.IntN(100))
			if random.IntN(3) > 0 {
				start, finish := queue.admit(now, time.Duration(1+random.IntN(90*slots)))
				visits = append(visits, visit{start, finish})
			}
			var want load
			for _, v := range visits {
				want.worked += min(v.finish, max(v.start, now)) - v.start
				switch {
				case v.start > now:
					want.queued++
				case v.finish > now:
					want.busy++
				}
			}
			if got := queue.load(now); got != want {
				t.Fatalf("%d slots at %v: got %+v, want %+v", slots, now, got, want)
			}
		}
	}
}

// TestErlangC checks against the closed form, with its factorials, and against the known results for one slot.
func TestErlangC(t *testing.T) {
	direct := func(rho float64, slots int) float64 {
		offered, term, below := rho*float64(slots), 1.0, 0.0
		for k := range slots {
			below += term
			term *= offered / float64(k+1)
		}
		all := term / (1 - rho)
		return all / (below + all) / (float64(slots) * (1 - rho))
	}
	for _, slots := range []int{1, 2, 8, 40} {
		for _, rho := range []float64{0.1, 0.5, 0.8, 0.95, 0.99} {
			got, want := ErlangC(rho, slots, time.Hour).Hours(), direct(rho, slots)
			if math.Abs(got-want) > 1e-9*want+1e-12 {
				t.Errorf("ρ = %v, K = %d: got %v service times, want %v", rho, slots, got, want)
			}
		}
	}
	if got := ErlangC(0.95, 1, time.Second); (got - 19*time.Second).Abs() > time.Microsecond {
		t.Errorf("M/M/1 at ρ = 0.95 waits 19 service times, got %v", got)
	}
	if got := ErlangC(0, 4, time.Second); got != 0 {
		t.Errorf("without load nobody waits, got %v", got)
	}
}

// TestModelAgainstTheory runs the model in virtual time. Seeds are fixed, so the result is always the same.
func TestModelAgainstTheory(t *testing.T) {
	const service = 50 * time.Millisecond
	for _, slots := range []int{1, 8} {
		for _, rho := range []float64{0.5, 0.8, 0.95} {
			config := Config{Slots: slots, ServiceTime: service, Distribution: Exponential, Seed: 7}
			got, want := modelWait(config, rho, modelRequests(rho)/8), ErlangC(rho, slots, service)
			off := math.Abs(float64(got-want)) / float64(want)
			t.Logf("ρ = %.2f, K = %d: mean wait %v, Erlang C %v, off by %.1f %%", rho, slots, got, want, 100*off)
			if off > 0.15 {
				t.Errorf("ρ = %v, K = %d: mean wait %v, want %v within 15 %%", rho, slots, got, want)
			}
		}
	}
	// With constant service times one slot makes people wait half as long (Pollaczek and Khinchine).
	config := Config{Slots: 1, ServiceTime: service, Distribution: Constant, Seed: 7}
	got, want := modelWait(config, 0.8, 300_000), ErlangC(0.8, 1, service)/2
	if off := math.Abs(float64(got-want)) / float64(want); off > 0.05 {
		t.Errorf("M/D/1 at ρ = 0.8: mean wait %v, want %v within 5 %%", got, want)
	}
}

package gcra

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestBurstThenRate(t *testing.T) {
	l, now := PerSecond(10, 10), time.Hour
	paid := time.Duration(0)
	for i := range 10 {
		next, wait := l.Admit(paid, now, 0)
		if wait != 0 {
			t.Fatalf("call %d of the burst refused for %v", i+1, wait)
		}
		paid = next
	}
	next, wait := l.Admit(paid, now, 0)
	if wait != 100*time.Millisecond || next != paid {
		t.Fatalf("the call above the burst has to wait %v and costs %v; want 100ms and nothing", wait, next-paid)
	}
	if _, early := l.Admit(paid, now+wait-1, 0); early != 1 {
		t.Errorf("a nanosecond before the time that was told the wait is %v", early)
	}
	if _, late := l.Admit(paid, now+wait, 0); late != 0 {
		t.Errorf("refused at the time that was told, for %v", late)
	}
}

func TestPerSecond(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		rate, burst float64
		want        Limit
	}{
		"exact":            {50, 50, Limit{20 * time.Millisecond, 980 * time.Millisecond}},
		"never more":       {3, 2, Limit{333_333_334, 333_333_334}},
		"below one":        {0.1, 1, Limit{10 * time.Second, 0}},
		"part of a burst":  {10, 2.5, Limit{100 * time.Millisecond, 150 * time.Millisecond}},
		"no burst":         {10, 0, Limit{100 * time.Millisecond, 0}},
		"very fast":        {1e12, 1, Limit{1, 0}},
		"without end":      {math.Inf(1), 1, Limit{1, 0}},
		"nothing":          {0, 1, Limit{30 * year, 0}},
		"negative":         {-5, 1, Limit{30 * year, 0}},
		"not a number":     {math.NaN(), 1, Limit{30 * year, 0}},
		"burst of no end":  {1, math.Inf(1), Limit{time.Second, 100 * year}},
		"burst of no size": {1, math.NaN(), Limit{time.Second, 0}},
	} {
		if got := PerSecond(c.rate, c.burst); got != c.want {
			t.Errorf("%s: PerSecond(%v, %v) is %v, want %v", name, c.rate, c.burst, got, c.want)
		}
	}
}

// TestShares: however a limit is split, the parts together come to no more than the whole.
func TestShares(t *testing.T) {
	whole := PerSecond(50, 25)
	for n, want := range map[int]Limit{
		-1: whole, 0: whole, 1: whole,
		2:  PerSecond(25, 12.5),
		5:  PerSecond(10, 5),
		25: PerSecond(2, 1),
		50: PerSecond(1, 1), // the least: one call each
	} {
		if got := whole.Share(n); got != want {
			t.Errorf("the share of one in %d is %v, want %v", n, got, want)
		}
	}
	if none := (Limit{}).Share(3); none != (Limit{}) {
		t.Errorf("a share of no limit is %v", none)
	}
}

// TestTheOtherLimitsLibrary: decisions are those of golang.org/x/time/rate, which counts tokens.
func TestTheOtherLimitsLibrary(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 5))
		perSecond, burst := 1+random.IntN(1000), 1+random.IntN(50)
		limit := PerSecond(float64(perSecond), float64(burst))
		interval := limit.Interval
		other := rate.NewLimiter(rate.Every(interval), burst)
		epoch, now, paid := time.Unix(1_000_000_000, 0), time.Duration(0), time.Duration(0)
		for range 500 {
			// Around the rate, with pauses now and then.
			now += time.Duration(random.ExpFloat64() * float64(interval) * 0.8)
			if random.IntN(50) == 0 {
				now += time.Duration(random.IntN(2*burst)) * interval
			}
			at := epoch.Add(now)
			left := other.TokensAt(at)
			if math.Abs(left-1) < 1e-5 {
				now += interval // too close for floating point
				continue
			}
			next, wait := limit.Admit(paid, now, 0)
			if allowed := other.AllowN(at, 1); allowed != (wait == 0) {
				t.Fatalf("seed %d, %d a second, burst %d, at %v: wait %v, but the other library has %v tokens", seed, perSecond, burst, now, wait, left)
			}
			paid = next
		}
	}
}

// TestAnotherLimitsDebt: what is owed by a limit that has been changed, or by another clock, is cut to what this one can owe.
func TestAnotherLimitsDebt(t *testing.T) {
	now := time.Hour
	slow, quick := PerSecond(1, 60), PerSecond(100, 100)
	paid := now
	for range 60 {
		paid, _ = slow.Admit(paid, now, 0)
	}
	paid, wait := quick.Admit(paid, now, 0)
	if wait != 10*time.Millisecond || paid != now+time.Second {
		t.Fatalf("after a change of the limit a call has to wait %v with %v owed, want 10ms and 1s", wait, paid-now)
	}
	if _, wait = quick.Admit(paid, now+wait, 0); wait != 0 {
		t.Errorf("and when that is over another %v", wait)
	}
	if _, wait := quick.Admit(now+1500*time.Millisecond, now, 0); wait != 510*time.Millisecond {
		t.Errorf("a clock half a second behind has a call wait %v, want 510ms: times may be out of order", wait)
	}
}

func TestNoLimit(t *testing.T) {
	if next, wait := (Limit{}).Admit(5, 3, 1); next != 5 || wait != 0 {
		t.Errorf("the zero limit gives %v, %v", next, wait)
	}
}

// FuzzLimit: whatever the limit and however calls come, in no span of time does more come in than the burst and the rate
// over that span; a refused call is let in exactly when it was told; and who leaves some of the tolerance never gets in
// where who leaves nothing would not.
func FuzzLimit(f *testing.F) {
	f.Add(10.0, 5.0, 1.0, []byte{0, 0, 0, 0, 0, 0, 1, 1, 1, 200})
	f.Add(0.5, 1.0, 0.0, []byte{255, 255, 0, 3})
	f.Add(99999.9, 1e6, 3.0, []byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, perSecond, burst, leaveCalls float64, gaps []byte) {
		if !(perSecond >= 1e-3 && perSecond <= 1e6 && burst >= 1 && burst <= 1e6 && leaveCalls >= 0 && leaveCalls <= 1e6) {
			return
		}
		limit := PerSecond(perSecond, burst)
		leave := time.Duration(leaveCalls * float64(limit.Interval))
		var admitted []time.Duration
		now, paid := time.Hour, time.Duration(0)
		for i, gap := range gaps[:min(len(gaps), 256)] {
			now += limit.Interval * time.Duration(gap) / 16
			mine := leave
			if i%2 == 0 {
				mine = 0
			}
			next, wait := limit.Admit(paid, now, mine)
			if _, open := limit.Admit(paid, now, 0); open > wait {
				t.Fatalf("who leaves %v waits %v, who leaves nothing %v", mine, wait, open)
			}
			if wait == 0 {
				admitted = append(admitted, now)
				if next < paid+limit.Interval || next > now+limit.Tolerance+limit.Interval {
					t.Fatalf("at %v the limit %v owed %v, and owes %v after a call", now, limit, paid, next)
				}
				paid = next
				continue
			}
			if next != paid || wait < 0 {
				t.Fatalf("a refused call changed %v into %v, wait %v", paid, next, wait)
			}
			if _, early := limit.Admit(paid, now+wait-1, mine); early == 0 {
				t.Fatalf("let in before the %v that were told", wait)
			}
			if _, late := limit.Admit(paid, now+wait, mine); late != 0 {
				t.Fatalf("refused after the %v that were told", wait)
			}
		}
		for i, from := range admitted {
			for j, to := range admitted[i:] {
				// One more than the rate's calls of the span fit into it, and the tolerance's on top.
				if most := int((to-from+limit.Tolerance)/limit.Interval) + 1; j+1 > most {
					t.Fatalf("%d calls came in within %v, %v allows %d", j+1, to-from, limit, most)
				}
			}
		}
	})
}

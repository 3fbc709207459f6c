package pacing

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// ask is one call: it comes after the one before by gap, and has patience to wait.
type ask struct{ gap, patience time.Duration }

func randomAsks(r *rand.Rand, n int, interval time.Duration) []ask {
	asks := make([]ask, n)
	for i := range asks {
		asks[i].patience = time.Duration(r.Int64N(int64(4 * interval)))
		switch r.IntN(4) {
		case 0: // at the same time
		case 1:
			asks[i].gap = time.Duration(r.Int64N(int64(interval)))
		case 2:
			asks[i].gap = interval + time.Duration(r.Int64N(3)) - 1 // at the edge of the library's own comparison
		case 3:
			asks[i].gap = time.Duration(r.Int64N(int64(3 * interval)))
		}
	}
	return asks
}

// TestTurns: whatever comes, turns are an interval apart, never before the call nor after its patience; the call has the
// first that is free; and a refused call changes nothing for those after it.
func TestTurns(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		interval := time.Duration(1 + r.Int64N(int64(time.Second)))
		var s schedule
		var now, free time.Duration // free: when the next turn is, by the words above
		for i, a := range randomAsks(r, 200, interval) {
			if now += a.gap; i == 0 {
				free = now + interval
			}
			want := max(now, free)
			at, ok := s.reserve(now, interval, now+a.patience)
			if at != want || ok != (want <= now+a.patience) {
				t.Fatalf("seed %d, call %d at %v with patience %v: turn %v, given %v; want %v", seed, i, now, a.patience, at, ok, want)
			}
			if ok {
				free = at + interval
			}
		}
	}
}

// TestTurnsWhenTheRateMoves: from the first call after a change of the interval on, over all, no more calls go than the new rate allows: those
// that had their turns already count, and each stays where it was given out.
func TestTurnsWhenTheRateMoves(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 11))
		var s schedule
		var now time.Duration
		interval := time.Duration(1+r.Int64N(100)) * time.Millisecond
		var given []time.Duration
		for range 10 {
			for _, a := range randomAsks(r, 50, interval) {
				now += a.gap
				if at, ok := s.reserve(now, interval, now+a.patience); ok {
					if at < now || at > now+a.patience {
						t.Fatalf("seed %d: a call at %v with patience %v has its turn at %v", seed, now, a.patience, at)
					}
					given = append(given, at)
				}
			}
			asks := randomAsks(r, 50, interval)
			changed := now + asks[0].gap // the schedule hears of it with the first call
			begin := len(given)
			pending := 0
			for _, at := range given {
				if at > changed {
					pending++
				}
			}
			interval = time.Duration(1+r.Int64N(100)) * time.Millisecond
			for _, a := range asks {
				now += a.gap
				if at, ok := s.reserve(now, interval, now+a.patience); ok {
					given = append(given, at)
				}
			}
			for i, at := range given[begin:] {
				// By this turn so many calls have gone since the change, at most: those before it and itself.
				gone := i + 1
				for _, before := range given[:begin] {
					if before > changed && before <= at {
						gone++
					}
				}
				if allowed := 1 + int((at-changed)/interval); gone > max(allowed, pending) {
					t.Fatalf("seed %d: %v after the change to %v %d calls have gone, %d are allowed", seed, at-changed, interval, gone, allowed)
				}
			}
		}
		if !slices.IsSorted(given) {
			t.Errorf("seed %d: a later call has an earlier turn", seed)
		}
	}
}

// TestALastingChange says what a change of shares does, in figures: a replica of 25 calls a second with a second's worth
// of calls waiting gets a fifth of that. The 25 go as they were told, then there is silence until they are paid for.
func TestALastingChange(t *testing.T) {
	const fast, slow = 40 * time.Millisecond, 200 * time.Millisecond
	var s schedule
	for range 25 {
		s.reserve(0, fast, time.Second)
	}
	if s.last != time.Second {
		t.Fatalf("the last turn is at %v", s.last)
	}
	if at, ok := s.reserve(0, slow, time.Second); ok || at != 5*time.Second+slow {
		t.Errorf("after 25 calls that count for 5s the next turn is at %v", at)
	}
	// And back, before anything was taken: as if nothing had been.
	if at, ok := s.reserve(0, fast, 2*time.Second); !ok || at != time.Second+fast {
		t.Errorf("with the old rate again the next turn is at %v", at)
	}
	// Faster: never before a turn that is given out already.
	if at, ok := s.reserve(0, time.Millisecond, 2*time.Second); !ok || at != time.Second+fast+time.Millisecond {
		t.Errorf("at 1,000 calls a second the next turn is at %v", at)
	}
}

func FuzzReserve(f *testing.F) {
	f.Add(int64(0), int64(20_000_000), int64(1_000_000_000), int64(5), int64(240_000_000))
	f.Add(int64(1), int64(1), int64(0), int64(0), int64(1<<62))
	f.Fuzz(func(t *testing.T, now, interval, patience, gap, next int64) {
		const year = int64(365 * 24 * time.Hour)
		bound := func(v, least int64) time.Duration { return time.Duration(max(least, min(v, 30*year))) }
		n, i, p := bound(now, 0), bound(interval, 1), min(bound(patience, 0), time.Minute)
		var s schedule
		for range 3 {
			if at, ok := s.reserve(n, i, n+p); ok && (at < n || at > n+p) {
				t.Errorf("at %v, every %v, patience %v: turn at %v", n, i, p, at)
			}
			n, i = n+min(bound(gap, 0), time.Hour), bound(next, 1)
		}
	})
}

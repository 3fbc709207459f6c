package gcra

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// admitted counts how many of n calls at now come in.
func admitted(l *Limiter, now time.Duration, n int, asks ...Ask) (in int) {
	for range n {
		if wait, _ := l.Admit(now, asks...); wait == 0 {
			in++
		}
	}
	return in
}

func TestAllLimitsOrNone(t *testing.T) {
	l := NewLimiter()
	all, one := Ask{Key: "all", Limit: PerSecond(10, 10)}, Ask{Key: "one", Limit: PerSecond(1, 2)}
	if in := admitted(l, 0, 5, all, one); in != 2 {
		t.Fatalf("%d calls of one person came in, want 2", in)
	}
	wait, by := l.Admit(0, all, one)
	if wait != time.Second || by != 1 {
		t.Errorf("the next has to wait %v for limit %d, want 1s for 1", wait, by)
	}
	if in := admitted(l, 0, 20, all, Ask{Key: "other", Limit: PerSecond(100, 100)}); in != 8 {
		t.Errorf("%d calls of another came in, want the 8 that the first did not use: a refused call costs nothing", in)
	}
	wait, by = l.Admit(0, all, one)
	if wait != time.Second || by != 1 {
		t.Errorf("of two limits the call waits %v for %d, want for the one that takes longest", wait, by)
	}
	if wait, _ := l.Admit(0, Ask{Key: "all"}); wait != 0 {
		t.Errorf("the zero limit refuses, for %v", wait)
	}
}

// TestTheUrgentFirst: under twice the load that the limit allows, who leaves nothing to others gets all he asks for, the
// others get the rest, and nothing of the rate is lost.
func TestTheUrgentFirst(t *testing.T) {
	l := NewLimiter()
	limit := PerSecond(100, 20)
	urgent, other := Ask{Key: "all", Limit: limit}, Ask{Key: "all", Limit: limit, Leave: 5 * limit.Interval}
	const seconds = 60
	var in [2]int
	for ms := range seconds * 1000 {
		now := time.Duration(ms) * time.Millisecond
		if ms%16 == 0 { // 62.5 a second
			in[0] += admitted(l, now, 1, urgent)
		}
		if ms%7 == 0 { // 142 a second
			in[1] += admitted(l, now, 1, other)
		}
	}
	if want := seconds * 1000 / 16; in[0] != want {
		t.Errorf("%d urgent calls came in, want all %d", in[0], want)
	}
	if sum, least := in[0]+in[1], seconds*100; sum < least || sum > least+20 {
		t.Errorf("%d calls came in, want %d and at most the burst more", sum, least)
	}
}

// TestNeverMoreUnderAnyInterleaving: callers read one clock, come by the lock when they come by it, and together never get
// more than burst and rate.
func TestNeverMoreUnderAnyInterleaving(t *testing.T) {
	l := NewLimiter()
	limit := PerSecond(1000, 50)
	var clock, in atomic.Int64
	var wg sync.WaitGroup
	const callers, calls, step = 8, 5000, 100 * time.Microsecond
	for range callers {
		wg.Go(func() {
			for range calls {
				now := time.Duration(clock.Add(int64(step)))
				if wait, _ := l.Admit(now, Ask{Key: "all", Limit: limit}); wait == 0 {
					in.Add(1)
				}
			}
		})
	}
	wg.Wait()
	span := callers * calls * step
	most := int64(50 + span/limit.Interval)
	// The first call may come a little after the clock began, no more than a call's interval.
	if got := in.Load(); got > most || got < most-1 {
		t.Errorf("%d calls came in within %v, want %d", got, span, most)
	}
}

// TestTimeOutOfOrder: a call that read its clock long before the others does not give back what they paid.
func TestTimeOutOfOrder(t *testing.T) {
	l := NewLimiter()
	ask := Ask{Key: "all", Limit: PerSecond(10, 10)}
	if in := admitted(l, time.Hour, 20, ask); in != 10 {
		t.Fatalf("%d came in, want 10", in)
	}
	if in := admitted(l, time.Minute, 20, ask); in != 0 {
		t.Errorf("%d more came in at an earlier time", in)
	}
	if in := admitted(l, time.Hour+time.Second, 20, ask); in != 10 {
		t.Errorf("%d came in a second later, want 10", in)
	}
}

func TestChangedLimit(t *testing.T) {
	l := NewLimiter()
	admitted(l, 0, 100, Ask{Key: "all", Limit: PerSecond(1, 60)})
	quick := Ask{Key: "all", Limit: PerSecond(100, 100)}
	if wait, _ := l.Admit(0, quick); wait != 10*time.Millisecond {
		t.Fatalf("after the change a call has to wait %v, want 10ms", wait)
	}
	if in := admitted(l, 10*time.Millisecond, 5, quick); in != 1 {
		t.Errorf("then %d come in, want 1", in)
	}
}

// TestCharge: what others let in counts, as far as a limit can owe.
func TestCharge(t *testing.T) {
	l := NewLimiter()
	ask := Ask{Key: "all", Limit: PerSecond(10, 10)}
	for range 4 {
		l.Charge(0, ask, Ask{Key: "unlimited"})
	}
	if in := admitted(l, 0, 20, ask); in != 6 {
		t.Errorf("%d come in beside 4 that were charged, want 6", in)
	}
	for range 1000 {
		l.Charge(0, ask)
	}
	if in := admitted(l, 500*time.Millisecond, 20, ask); in != 5 {
		t.Errorf("%d come in half a second after a thousand were charged, want 5", in)
	}
}

// TestForgets: keys that say nothing more do not stay.
func TestForgets(t *testing.T) {
	l := NewLimiter()
	limit := PerSecond(10, 5)
	most := 0
	for i := range 200_000 {
		l.Admit(time.Duration(i)*time.Millisecond, Ask{Key: strconv.Itoa(i), Limit: limit})
		most = max(most, len(l.paid))
	}
	if most > 2*leastSweep {
		t.Errorf("up to %d keys were held, of which 100 said anything", most)
	}
}

func BenchmarkLimit(b *testing.B) {
	limit, paid, now := PerSecond(1e9, 1), time.Duration(0), time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		now++
		paid, _ = limit.Admit(paid, now, 0)
	}
}

// The limits are in use and full nine calls of ten: each way is timed on the same mix.
func BenchmarkLimiter(b *testing.B) {
	l, now := NewLimiter(), time.Duration(0)
	ask := Ask{Key: "all", Limit: PerSecond(1e6, 10)}
	b.ReportAllocs()
	for b.Loop() {
		now += 100
		l.Admit(now, ask)
	}
}

func BenchmarkLimiterOfTwo(b *testing.B) {
	l, now := NewLimiter(), time.Duration(0)
	all, one := Ask{Key: "all", Limit: PerSecond(1e6, 10)}, Ask{Key: "one", Limit: PerSecond(5e6, 10)}
	b.ReportAllocs()
	for b.Loop() {
		now += 100
		l.Admit(now, all, one)
	}
}

func BenchmarkBareTimeRate(b *testing.B) {
	l, now := rate.NewLimiter(1e6, 10), time.Unix(0, 0)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(100)
		l.AllowN(now, 1)
	}
}

// BenchmarkBareTimeRateWithWait learns how long a refused call should wait, as Limiter tells too.
func BenchmarkBareTimeRateWithWait(b *testing.B) {
	l, now := rate.NewLimiter(1e6, 10), time.Unix(0, 0)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(100)
		if r := l.ReserveN(now, 1); r.DelayFrom(now) > 0 {
			r.CancelAt(now)
		}
	}
}

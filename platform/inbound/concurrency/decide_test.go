package concurrency

import (
	"math"
	"testing"
	"time"

	"go.uber.org/goleak"

	"spillway.dev/platform/criticality"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

func TestBeginning(t *testing.T) {
	for slots, want := range map[int]int{1: 2, 12: 24, 5000: highest, 0: lowest} {
		if got := beginning(slots); got != want {
			t.Errorf("with %d slots the limit begins at %d, want %d", slots, got, want)
		}
	}
}

func TestRoomOfEachClass(t *testing.T) {
	for limit, want := range map[int][criticality.Classes]int{
		1: {1, 1, 1}, 2: {2, 1, 1}, 4: {4, 3, 3}, 10: {10, 9, 8}, 20: {20, 19, 16}, 100: {100, 95, 80}, 1000: {1000, 950, 800},
	} {
		for class := range want {
			if got := room(criticality.Class(class), limit); got != want[class] {
				t.Errorf("of a limit of %d, %v calls may use %d, want %d", limit, criticality.Class(class), got, want[class])
			}
		}
		if room(77, limit) != want[criticality.Sheddable] {
			t.Error("a class that does not exist is not the last")
		}
	}
}

// intervals feeds a with calls, ten an interval, from time 0 on.
func intervals(a *aimd, n int, wait time.Duration, inFlight int) {
	from := a.until
	if from.IsZero() {
		from = time.Unix(0, 0)
	}
	for i := range 10*n + 1 {
		a.arrive(from.Add(time.Duration(i)*interval/10), wait, 20*ms, inFlight)
	}
}

func TestAIMD(t *testing.T) {
	for name, test := range map[string]struct {
		limit    float64
		wait     time.Duration
		inFlight int
		want     float64
	}{
		"no wait":             {20, 0, 20, 21},
		"at the target":       {20, 20 * ms, 20, 21},
		"half in use":         {20, 0, 10, 21},
		"less in use":         {20, 0, 9, 20},
		"twice the target":    {20, 40 * ms, 20, 20 * 0.98},
		"eleven times":        {20, 220 * ms, 20, 20 * 0.8},
		"far above":           {20, time.Hour, 20, 10},
		"not below 1":         {1.5, time.Hour, 20, 1},
		"not above the bound": {highest, 0, highest, highest},
		"above, not in use":   {20, 40 * ms, 0, 20 * 0.98},
	} {
		a := &aimd{limit: test.limit}
		intervals(a, 1, test.wait, test.inFlight)
		if math.Abs(a.limit-test.want) > 1e-9 {
			t.Errorf("%s: the limit becomes %v, want %v", name, a.limit, test.want)
		}
	}
}

func TestOneChangeAnInterval(t *testing.T) {
	const initial = 20
	a := newAIMD(initial)
	now := time.Unix(0, 0)
	for range 1000 {
		a.arrive(now, time.Hour, 20*ms, 1)
	}
	if a.limit != initial {
		t.Errorf("within an interval the limit went to %v", a.limit)
	}
	// After an hour of silence, one call changes it once, by what was seen before.
	a.arrive(now.Add(time.Hour), 0, 20*ms, 1)
	if a.limit != initial*harshest {
		t.Errorf("the limit is %v, want %v", a.limit, initial*harshest)
	}
	a.arrive(now.Add(time.Hour+interval), 0, 20*ms, 20)
	if a.limit != initial*harshest {
		t.Errorf("the limit rose to %v by a call that was alone", a.limit)
	}
}

// FuzzAIMD: whatever calls come, the limit stays within its bounds.
func FuzzAIMD(f *testing.F) {
	f.Add(int64(20*ms), []byte{0, 200, 3, 255, 255, 255})
	f.Fuzz(func(t *testing.T, target int64, calls []byte) {
		a, now := newAIMD(20), time.Unix(0, 0)
		for i := 0; i+2 < len(calls); i += 3 {
			now = now.Add(time.Duration(calls[i]) * ms)
			before := a.limit
			a.arrive(now, time.Duration(calls[i+1])*time.Duration(calls[i+1])*ms, max(ms, time.Duration(target)), int(calls[i+2]))
			if !(a.limit >= lowest && a.limit <= highest) || a.limit > before+1 || a.limit < before*harshest-1 {
				t.Fatalf("the limit goes from %v to %v", before, a.limit)
			}
		}
	})
}

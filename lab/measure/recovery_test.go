package measure

import (
	"slices"
	"testing"
)

// seconds makes a load of one-second buckets of 100 journeys with these numbers
// of good ones; good[i] holds for the i-th second.
func seconds(good ...int64) []Load {
	var load []Load
	for i, g := range good {
		load = append(load, Load{T: float64(i), Dur: 1, Counts: Counts{Offered: 100, Good: g}})
	}
	return load
}

// stretch is n times the same.
func stretch(parts ...[2]int64) (all []int64) {
	for _, p := range parts {
		for range p[0] {
			all = append(all, p[1])
		}
	}
	return all
}

func TestRecovery(t *testing.T) {
	for name, c := range map[string]struct {
		good     []int64
		faults   []Window
		warmup   float64
		duration float64
		want     float64
	}{
		"at once": {
			// 20 s good, 10 s of fault with half, good from its end on.
			good:   stretch([2]int64{20, 100}, [2]int64{10, 50}, [2]int64{30, 100}),
			faults: []Window{{From: 20, To: 30}}, duration: 60, want: 0,
		},
		"after a while": {
			// 7 s more of nothing. The first 10 s with at least 950 good ones begin
			// at 37: [36, 46) has 900.
			good:   stretch([2]int64{20, 100}, [2]int64{17, 0}, [2]int64{23, 100}),
			faults: []Window{{From: 20, To: 30}}, duration: 60, want: 7,
		},
		"of what it was before": {
			// Before it was 0.8; 0.76 is 95 % of that.
			good:   stretch([2]int64{20, 80}, [2]int64{10, 10}, [2]int64{5, 70}, [2]int64{25, 76}),
			faults: []Window{{From: 20, To: 30}}, duration: 60,
			// [34, 44) is 70 + 9 × 76 = 754 of 1000, below 760.
			want: 5,
		},
		"never": {
			good:   stretch([2]int64{20, 100}, [2]int64{40, 40}),
			faults: []Window{{From: 20, To: 30}}, duration: 60, want: 30, // to the end
		},
		"shortly before the end": {
			// Back at 53 of 60: [53, 60) has 700 of 700, [52, 60) 700 of 800.
			good:   stretch([2]int64{20, 100}, [2]int64{33, 0}, [2]int64{7, 100}),
			faults: []Window{{From: 20, To: 30}}, duration: 60, want: 23,
		},
		"too shortly before the end": {
			good:   stretch([2]int64{20, 100}, [2]int64{36, 0}, [2]int64{4, 100}),
			faults: []Window{{From: 20, To: 30}}, duration: 60, want: 30,
		},
		"a kill shows after it": {
			// Killed at 20, which has no duration; 3 s of 60 good ones.
			good:   stretch([2]int64{20, 100}, [2]int64{3, 60}, [2]int64{37, 100}),
			faults: []Window{{From: 20, To: 20}}, duration: 60,
			// [20, 30) is 3 × 60 + 7 × 100 = 880, [21, 31) 920, [22, 32) 960.
			want: 2,
		},
		"the longest of several": {
			good: stretch([2]int64{20, 100}, [2]int64{5, 0}, [2]int64{25, 100}, [2]int64{14, 0}, [2]int64{16, 100}),
			// Ends at 22 and at 55: back at 25 and at 64.
			faults: []Window{{From: 50, To: 55}, {From: 20, To: 22}}, duration: 80, want: 9,
		},
		"not before the next fault": {
			good: stretch([2]int64{20, 100}, [2]int64{40, 0}, [2]int64{20, 100}),
			// The first has until 35 only: 13 s. The second is back at 60 of 40.
			faults: []Window{{From: 20, To: 22}, {From: 35, To: 40}}, duration: 80, want: 20,
		},
		"overlapping faults are one": {
			good:   stretch([2]int64{20, 100}, [2]int64{20, 0}, [2]int64{20, 100}),
			faults: []Window{{From: 20, To: 30}, {From: 25, To: 38}}, duration: 60, want: 2,
		},
		"a little after a full second": {
			// The fault ended 0.2 s into the bucket, which is served well.
			good:   stretch([2]int64{20, 100}, [2]int64{10, 0}, [2]int64{30, 100}),
			faults: []Window{{From: 20, To: 30.2}}, duration: 60, want: 0,
		},
		"no fault": {
			good: stretch([2]int64{60, 100}), duration: 60, want: unknown,
		},
		"no time before it": {
			good: stretch([2]int64{60, 100}), warmup: 10, faults: []Window{{From: 10, To: 20}}, duration: 60, want: unknown,
		},
		"lasts to the end": {
			good: stretch([2]int64{60, 100}), faults: []Window{{From: 20, To: 60}}, duration: 60, want: unknown,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Recording{Warmup: c.warmup, Duration: c.duration, Load: seconds(c.good...), Faults: c.faults}
			has(t, Measures(r), map[string]float64{"recovery_seconds": c.want})
		})
	}
}

func TestFaultTimes(t *testing.T) {
	r := &Recording{Warmup: 10, Duration: 100, Faults: []Window{
		{From: 90, To: 100}, {From: 0, To: 5}, {From: 5, To: 12}, {From: 30, To: 30}, {From: 40, To: 50}, {From: 45, To: 60},
	}}
	if got, want := r.FaultTimes(), []Window{{From: 10, To: 12}, {From: 40, To: 60}, {From: 90, To: 100}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestRecoveryInTimelapse(t *testing.T) {
	// Time-lapse 20: a bucket is 20 scenario seconds, longer than the 10 s for
	// which recovery has to hold, so one good bucket is enough.
	r := &Recording{Timelapse: 20, Duration: 120, Faults: []Window{{From: 40, To: 60}}}
	for i, good := range []int64{100, 100, 0, 50, 100, 100} {
		r.Load = append(r.Load, Load{T: float64(20 * i), Dur: 20, Counts: Counts{Offered: 100, Good: good}})
	}
	has(t, Measures(r), map[string]float64{"recovery_seconds": 20})
}

package measure

import (
	"maps"
	"math"
	"slices"
	"testing"
)

// has checks some figures of all, by key, to rounding.
func has(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		v, ok := got[key]
		switch {
		case math.IsNaN(want[key]) && ok:
			t.Errorf("%s is %v; it cannot be known", key, v)
		case !math.IsNaN(want[key]) && (!ok || math.Abs(v-want[key]) > 1e-9):
			t.Errorf("%s is %v (there: %v), want %v", key, v, ok, want[key])
		}
	}
}

// unknown stands for a figure that must not be there.
var unknown = math.NaN()

func TestServed(t *testing.T) {
	// Time-lapse 10: a bucket of 10 scenario seconds is a real second. The first
	// bucket is warm-up, the last lies behind the end.
	r := &Recording{
		Timelapse: 10, Warmup: 10, Duration: 40,
		Load: []Load{
			{T: 0, Dur: 10, Counts: Counts{Offered: 999, Good: 1}},
			{T: 10, Dur: 10, Counts: Counts{Offered: 100, Good: 100},
				ByPriority: map[string]Counts{"critical": {Offered: 20, Good: 20}, "sheddable": {Offered: 80, Good: 80}}},
			{T: 20, Dur: 10, Counts: Counts{Offered: 200, Good: 110, Late: 10, Refused: 5, Shed: 60, Errors: map[string]int64{"UNAVAILABLE": 15}},
				ByPriority: map[string]Counts{"critical": {Offered: 40, Good: 40}, "sheddable": {Offered: 160, Good: 70}},
				ByJourney:  map[string]Counts{"browse": {Offered: 150, Good: 105}, "buy": {Offered: 50, Good: 5}}},
			{T: 30, Dur: 10, Counts: Counts{Offered: 100, Good: 90, Errors: map[string]int64{"UNAVAILABLE": 1, "INTERNAL": 9}}},
			{T: 40, Dur: 10, Counts: Counts{Offered: 999}},
		},
		Whole: Whole{Answered: 315, P50: 250, P99: 900, P999: 1200},
	}
	has(t, Measures(r), map[string]float64{
		"offered_per_s":           400.0 / 3, // 100 + 200 + 100 in 3 real seconds
		"goodput_per_s":           100,       // 300 in 3
		"goodput_ratio":           0.75,      // 300 of 400
		"shed_ratio":              0.15,      // 60 of 400
		"goodput_ratio.critical":  1,         // 60 of 60
		"goodput_ratio.sheddable": 0.625,     // 150 of 240

		"journey_goodput_ratio.browse": 0.7,
		"journey_goodput_ratio.buy":    0.1,
		"p50_ms":                       250, "p99_ms": 900, "p999_ms": 1200,
	})
	all, seconds := Total(r)
	if seconds != 3 || all.Errors["UNAVAILABLE"] != 16 || all.Errors["INTERNAL"] != 9 {
		t.Errorf("got %+v in %v s, want 16 UNAVAILABLE and 9 INTERNAL in 3 s", all, seconds)
	}
	if r.Load[2].Errors["UNAVAILABLE"] != 15 {
		t.Error("summing up changed the recording")
	}
}

func TestNothingOfferedHasNoRatio(t *testing.T) {
	r := &Recording{Duration: 10, Load: []Load{{T: 0, Dur: 1, ByPriority: map[string]Counts{"critical": {}}}}}
	has(t, Measures(r), map[string]float64{
		"offered_per_s": 0, "goodput_per_s": 0, "goodput_ratio": unknown, "shed_ratio": unknown,
		"goodput_ratio.critical": unknown, "p50_ms": unknown,
	})
}

func TestCountedOnlyWhereSomebodyLooked(t *testing.T) {
	r := &Recording{Duration: 10, Lost: new(int64(0)), QuotaBreaches: new(int64(7))}
	has(t, Measures(r), map[string]float64{
		"lost_requests": 0, "quota_breaches": 7, "double_executions": unknown, "sessions_lost": unknown,
	})
	r = &Recording{Duration: 10, Doubles: new(int64(3)), SessionsLost: new(int64(4))}
	has(t, Measures(r), map[string]float64{
		"double_executions": 3, "sessions_lost": 4, "lost_requests": unknown, "quota_breaches": unknown,
	})
}

func TestAnEmptyRecordingSaysNothingItCannotKnow(t *testing.T) {
	got := Measures(&Recording{})
	want := map[string]float64{"scaling_actions": 0, "flapping": 0}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

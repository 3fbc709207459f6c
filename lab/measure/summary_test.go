package measure

import (
	"maps"
	"math"
	"slices"
	"testing"
)

// runs makes repeats that have one measure.
func runs(values ...float64) []map[string]float64 {
	var all []map[string]float64
	for _, v := range values {
		all = append(all, map[string]float64{"p99_ms": v})
	}
	return all
}

func TestSummarise(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   Summary
	}{
		"one": {[]float64{7}, Summary{7, 7, 7}},
		// The median of two drawn of 1 and 3 is 1 in a quarter of the draws.
		"two": {[]float64{3, 1}, Summary{2, 1, 3}},
		// Two or three of three are the lowest in 7 of 27 draws: 26 %.
		"three": {[]float64{30, 10, 20}, Summary{20, 10, 30}},
		// At least three of five are the lowest in 5.8 % of the draws.
		"five": {[]float64{1, 2, 3, 4, 5}, Summary{3, 1, 5}},
		// At least four of seven are the lowest in 1.0 %, one of the two lowest
		// in 10.8 %: 2.5 % lies between them, at the second.
		"seven":    {[]float64{1, 2, 3, 4, 5, 6, 7}, Summary{4, 2, 6}},
		"all same": {[]float64{4, 4, 4, 4}, Summary{4, 4, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(5) {
				if got := Summarise(runs(c.values...), seed)["p99_ms"]; got != c.want {
					t.Fatalf("seed %d: got %+v, want %+v", seed, got, c.want)
				}
			}
		})
	}
}

func TestSummariseIsFixedByItsSeed(t *testing.T) {
	values := []float64{3, 9, 4, 1, 5, 2, 6, 8, 7, 15, 12, 11}
	first := Summarise(runs(values...), 5)
	backwards := slices.Clone(values)
	slices.Reverse(backwards)
	others := runs(backwards...)
	for _, repeat := range others {
		repeat["p50_ms"] = 1
	}
	again := Summarise(others, 5)
	delete(again, "p50_ms")
	if !maps.Equal(first, again) {
		t.Errorf("another order and another measure changed %+v to %+v", first, again)
	}
}

func TestSummariseCoversTheMedian(t *testing.T) {
	// 99 values around 50: the standard error of a median of uniform values is
	// about width ÷ (2 √n) = 5, so the interval is about ±10.
	var values []float64
	for i := range 99 {
		values = append(values, float64(i+1))
	}
	got := Summarise(runs(values...), 1)["p99_ms"]
	if got.Median != 50 || math.Abs(got.Low-40) > 3 || math.Abs(got.High-60) > 3 {
		t.Errorf("got %+v, want about 40 to 60 around 50", got)
	}
}

func TestSummariseOverTheRepeatsThatHaveIt(t *testing.T) {
	repeats := append(runs(1, 3), map[string]float64{"p50_ms": 4})
	got := Summarise(repeats, 1)
	if got["p99_ms"].Median != 2 || got["p50_ms"] != (Summary{4, 4, 4}) {
		t.Errorf("got %+v", got)
	}
	if got := Summarise(nil, 1); len(got) != 0 {
		t.Errorf("of no repeats: got %v", got)
	}
}

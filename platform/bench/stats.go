package bench

import (
	"math"
	"slices"
)

// Spread describes a sample by its quartiles, which a few disturbed rounds cannot move.
type Spread struct {
	Q1     float64 `json:"q1"`
	Median float64 `json:"median"`
	Q3     float64 `json:"q3"`
	N      int     `json:"n"`
}

// Describe gives the quartiles of a sample, interpolated linearly between the two nearest ranks (Hyndman and Fan 1996,
// type 7). An empty sample has NaN for each. The sample is not changed.
func Describe(sample []float64) Spread {
	sorted := slices.Sorted(slices.Values(sample))
	return Spread{Q1: quantile(sorted, 0.25), Median: quantile(sorted, 0.5), Q3: quantile(sorted, 0.75), N: len(sorted)}
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// Ratios divides the measurements of one side by the baseline's of the same round. Rounds that follow each other share
// what the machine was doing, so the quotient of a pair is steadier than the quotient of two medians. The slices are of
// one length; a baseline of 0 gives no ratio.
func Ratios(side, baseline []float64) []float64 {
	out := make([]float64, 0, len(baseline))
	for i, b := range baseline {
		if b > 0 {
			out = append(out, side[i]/b)
		}
	}
	return out
}

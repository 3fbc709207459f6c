package measure

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"
)

const (
	// resamples is how often the repeats are drawn anew.
	resamples = 4000
	// outside is the share of resampled medians left out on either side.
	outside = 0.025
)

// Summarise is the median of every measure over the repeats of a variant, with a
// 95 % interval by the percentile bootstrap: the repeats are drawn with
// replacement 4000 times, and the interval is the middle 95 % of the medians.
// Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
//
// With two to five repeats it runs from the lowest to the highest; it cannot
// know of values that never came up. The seed fixes what is drawn: the
// same repeats and seed give the same interval. A measure that some repeats
// lack is summarised over those that have it.
func Summarise(repeats []map[string]float64, seed uint64) map[string]Summary {
	values := make(map[string][]float64)
	for _, repeat := range repeats {
		for key, v := range repeat {
			values[key] = append(values[key], v)
		}
	}
	out := make(map[string]Summary, len(values))
	for key, vs := range values {
		out[key] = summarise(vs, rand.New(rand.NewPCG(seed, stream(key))))
	}
	return out
}

// stream gives every measure random numbers of its own, so that its interval
// does not depend on which others there are.
func stream(key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	return h.Sum64()
}

func summarise(values []float64, random *rand.Rand) Summary {
	// Repeats come in any order.
	values = slices.Sorted(slices.Values(values))
	m := median(values)
	if len(values) == 1 {
		return Summary{Median: m, Low: m, High: m}
	}
	medians := make([]float64, resamples)
	drawn := make([]float64, len(values))
	for i := range medians {
		for j := range drawn {
			drawn[j] = values[random.IntN(len(values))]
		}
		slices.Sort(drawn)
		medians[i] = median(drawn)
	}
	slices.Sort(medians)
	cut := int(outside * resamples)
	return Summary{Median: m, Low: medians[cut], High: medians[resamples-1-cut]}
}

// median is of sorted values; of an even number the mean of the two in the
// middle.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

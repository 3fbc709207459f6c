package measure

import (
	"math"
	"slices"
)

// At is the value at a time; false when the series has no point.
func (s Series) At(t float64) (float64, bool) {
	if len(s) == 0 {
		return 0, false
	}
	after, exact := slices.BinarySearchFunc(s, t, func(p Point, t float64) int {
		switch {
		case p.T < t:
			return -1
		case p.T > t:
			return 1
		}
		return 0
	})
	switch {
	case exact:
		return s[after].V, true
	case after == 0:
		return s[0].V, true
	}
	return s[after-1].V, true
}

// Finite is the series without points that are not numbers, such as the ratio of
// nothing to nothing. A recording holds finite numbers only.
func (s Series) Finite() Series {
	return slices.DeleteFunc(slices.Clone(s), func(p Point) bool {
		return math.IsNaN(p.V) || math.IsInf(p.V, 0)
	})
}

// integral is the area under the series from one time to another: value ×
// scenario seconds.
func (s Series) integral(from, to float64) float64 {
	area := 0.0
	pieces(from, to, func(t, dt float64) {
		v, _ := s.At(t)
		area += v * dt
	}, s)
	return area
}

// highest is the largest value from one time to another; false when there is
// none.
func (s Series) highest(from, to float64) (float64, bool) {
	if len(s) == 0 || from >= to {
		return 0, false
	}
	top := math.Inf(-1)
	pieces(from, to, func(t, _ float64) {
		v, _ := s.At(t)
		top = max(top, v)
	}, s)
	return top, true
}

// pieces calls visit for every stretch between from and to in which no series
// changes, with where it begins and how long it is.
func pieces(from, to float64, visit func(t, dt float64), series ...Series) {
	if from >= to {
		return
	}
	cuts := []float64{from, to}
	for _, s := range series {
		for _, p := range s {
			if p.T > from && p.T < to {
				cuts = append(cuts, p.T)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for i, t := range cuts[:len(cuts)-1] {
		visit(t, cuts[i+1]-t)
	}
}

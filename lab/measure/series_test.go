package measure

import (
	"math"
	"slices"
	"testing"
)

// steps makes a series of times and values in turn.
func steps(tv ...float64) Series {
	var s Series
	for pair := range slices.Chunk(tv, 2) {
		s = append(s, Point{pair[0], pair[1]})
	}
	return s
}

func TestAValueHoldsUntilTheNext(t *testing.T) {
	s := steps(10, 1, 20, 3)
	for at, want := range map[float64]float64{0: 1, 10: 1, 19.9: 1, 20: 3, 99: 3} {
		if got, ok := s.At(at); !ok || got != want {
			t.Errorf("at %v: got %v, want %v", at, got, want)
		}
	}
	if _, ok := (Series{}).At(5); ok {
		t.Error("an empty series has a value")
	}
	// 10 s of 1, then 5 s of 3.
	if got := s.integral(10, 25); got != 25 {
		t.Errorf("area: got %v, want 25", got)
	}
	// From 5 s before the first point on.
	if got := s.integral(5, 12); got != 7 {
		t.Errorf("area from before the first point: got %v, want 7", got)
	}
	if got := s.integral(25, 10); got != 0 {
		t.Errorf("area of no time: got %v", got)
	}
	if top, ok := s.highest(0, 20); !ok || top != 1 {
		t.Errorf("highest before 20: got %v, want 1: 20 itself is outside", top)
	}
}

func TestFiniteDropsWhatIsNoNumber(t *testing.T) {
	s := Series{{0, 1}, {1, math.NaN()}, {2, math.Inf(1)}, {3, 2}}
	if got := s.Finite(); !slices.Equal(got, steps(0, 1, 3, 2)) {
		t.Errorf("got %v", got)
	}
	if len(s) != 4 {
		t.Error("the series itself was changed")
	}
}

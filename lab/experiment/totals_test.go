package experiment

import (
	"slices"
	"testing"

	"github.com/prometheus/prometheus/promql"
)

func TestTotal(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []float64
		want    float64
	}{
		{"nothing was scraped", nil, 0},
		{"one scrape of one life", []float64{7}, 7},
		{"one life", []float64{0, 3, 3, 10}, 10},
		{"a life that began anew", []float64{4, 10, 2, 5}, 15},
		{"its first scrape came late", []float64{10, 9, 9, 12}, 22},
		{"three lives, the second without a call", []float64{5, 0, 0, 1}, 6},
	} {
		var samples []promql.FPoint
		for i, v := range c.samples {
			samples = append(samples, promql.FPoint{T: int64(i), F: v})
		}
		if got := total(samples); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDoubles(t *testing.T) {
	a, b, c := pair{"gateway", "order"}, pair{"order", "inventory"}, pair{"order", "payment"}
	for _, test := range []struct {
		name        string
		ran, wanted map[pair]float64
		cut         map[string]bool
		want        int64 // -1: not counted
		uncounted   []string
	}{
		{name: "nobody called", want: 0},
		{name: "as many as were asked for", ran: map[pair]float64{a: 10, b: 20}, wanted: map[pair]float64{a: 10, b: 20}},
		{name: "one callee's loss hides no double of another pair", ran: map[pair]float64{a: 12, b: 15}, wanted: map[pair]float64{a: 10, b: 20}, want: 2},
		{name: "two callers of one kind", ran: map[pair]float64{b: 23, c: 24}, wanted: map[pair]float64{b: 20, c: 20}, want: 7},
		{name: "what a killed caller took with it is no double", ran: map[pair]float64{a: 11, b: 25, c: 9}, wanted: map[pair]float64{a: 10, b: 20, c: 5},
			cut: map[string]bool{"order": true}, want: 1, uncounted: []string{"order → inventory", "order → payment"}},
		{name: "a killed callee adds none", ran: map[pair]float64{b: 18}, wanted: map[pair]float64{b: 20}, cut: map[string]bool{"inventory": true}},
		{name: "nothing left to count", ran: map[pair]float64{b: 25}, wanted: map[pair]float64{b: 20},
			cut: map[string]bool{"order": true}, want: -1, uncounted: []string{"order → inventory"}},
	} {
		got, uncounted := doubles(test.ran, test.wanted, test.cut)
		switch {
		case (got == nil) != (test.want < 0), got != nil && *got != test.want:
			t.Errorf("%s: %v, want %d", test.name, got, test.want)
		case !slices.Equal(uncounted, test.uncounted):
			t.Errorf("%s: without %q, want %q", test.name, uncounted, test.uncounted)
		}
	}
}

func TestWithin(t *testing.T) {
	// Scrapes every 10 s.
	counts := func(values ...float64) (samples []promql.FPoint) {
		for i, v := range values {
			samples = append(samples, promql.FPoint{T: int64(10_000 * i), F: v})
		}
		return samples
	}
	for name, c := range map[string]struct {
		samples []promql.FPoint
		spans   []span
		want    float64
	}{
		"nothing was scraped":   {nil, []span{{0, 1000}}, 0},
		"no fault":              {counts(0, 10, 20), nil, 0},
		"between two scrapes":   {counts(0, 10, 30, 60, 100), []span{{22_000, 28_000}}, 30},
		"across one":            {counts(0, 10, 30, 60, 100), []span{{15_000, 25_000}}, 20 + 30},
		"from scrape to scrape": {counts(0, 10, 30, 60, 100), []span{{10_000, 20_000}}, 20},
		"two in one stretch":    {counts(0, 10, 30, 60, 100), []span{{11_000, 12_000}, {17_000, 18_000}}, 20},
		"two":                   {counts(0, 10, 30, 60, 100), []span{{1_000, 2_000}, {31_000, 32_000}}, 10 + 40},
		"a replica began anew":  {counts(0, 10, 4, 9), []span{{15_000, 25_000}}, 4 + 5},
		"the last scrape":       {counts(0, 10), []span{{15_000, 25_000}}, 0},
		"it began meanwhile":    {counts(7, 9), []span{{-5_000, 500}}, 7 + 2},
	} {
		if got := within(c.samples, c.spans); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

package measure

import "testing"

func TestRise(t *testing.T) {
	for name, c := range map[string]struct {
		rate             Series
		good             []int64
		warmup, duration float64
		want             any
	}{
		"a spike": {
			// Only [30, 210) is of the rise: a third of it is lost.
			rate: Series{{0, 10}, {30, 40}, {250, 10}}, warmup: 10, duration: 300,
			good: stretch([2]int64{30, 90}, [2]int64{60, 0}, [2]int64{120, 100}, [2]int64{90, 50}), want: 12000.0 / 18000,
		},
		"a ramp, which rises until it is at its highest": {
			// [20, 240)
			rate: Series{{0, 10}, {20, 20}, {40, 30}, {60, 40}}, warmup: 10, duration: 300,
			good: stretch([2]int64{20, 0}, [2]int64{40, 100}, [2]int64{180, 50}, [2]int64{60, 0}), want: 13000.0 / 22000,
		},
		"a load that falls first": {
			rate: Series{{0, 10}, {20, 5}, {40, 30}}, warmup: 10, duration: 300,
			good: stretch([2]int64{40, 0}, [2]int64{180, 80}, [2]int64{80, 0}), want: 0.8,
		},
		"a rise in the warm-up is none": {
			rate: Series{{0, 1}, {5, 10}, {40, 20}}, warmup: 10, duration: 300,
			good: stretch([2]int64{40, 0}, [2]int64{260, 100}), want: 1.0,
		},
		"cut off by the end": {
			rate: Series{{0, 10}, {90, 20}}, warmup: 10, duration: 100,
			good: stretch([2]int64{90, 0}, [2]int64{10, 30}, [2]int64{5, 0}), want: 0.3,
		},
		"a load that does not rise": {
			rate: Series{{0, 10}, {50, 5}}, warmup: 10, duration: 100, good: stretch([2]int64{100, 100}), want: unknown,
		},
		"no plan": {warmup: 10, duration: 100, good: stretch([2]int64{100, 100}), want: unknown},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Recording{Warmup: c.warmup, Duration: c.duration, Rate: c.rate, Load: seconds(c.good...)}
			want, known := c.want.(float64)
			if !known {
				want = unknown
			}
			has(t, Measures(r), map[string]float64{"rise_goodput_ratio": want})
		})
	}
}

package measure

import "testing"

func TestPossible(t *testing.T) {
	// Time-lapse 10: a bucket of 10 scenario seconds is a real second. catalog
	// answers 40 calls a second a replica, and a journey makes two of them; the
	// bank is never the tightest.
	r := &Recording{
		Timelapse: 10, Warmup: 10, Duration: 40,
		Services: []Service{
			{Name: "catalog", CapacityOfOne: 40, Visits: map[string]float64{AnyJourney: 2}, Ready: Series{{T: 0, V: 1}, {T: 20, V: 2}, {T: 35, V: 4}}},
			{Name: "bank", CapacityOfOne: 1000, Visits: map[string]float64{AnyJourney: 1}, Ready: Series{{T: 0, V: 1}}},
			{Name: "unknown", Ready: Series{{T: 0, V: 1}}},
		},
		Load: []Load{
			{T: 0, Dur: 10, Counts: Counts{Offered: 999, Good: 999}}, // warm-up
			{T: 10, Dur: 10, Counts: Counts{Offered: 10, Good: 10}},  // 20 would be possible
			{T: 20, Dur: 10, Counts: Counts{Offered: 100, Good: 36}}, // 40
			{T: 30, Dur: 10, Counts: Counts{Offered: 100, Good: 9}},  // 60: half of the second with 2, half with 4
		},
	}
	has(t, Measures(r), map[string]float64{"capacity_goodput_ratio": 0.5}) // 55 of 110
	r.Services = r.Services[2:]
	has(t, Measures(r), map[string]float64{"capacity_goodput_ratio": unknown})
}

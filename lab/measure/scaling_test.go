package measure

import "testing"

func TestScaling(t *testing.T) {
	r := &Recording{
		Warmup: 100, Duration: 2000,
		Actions: []Action{
			{T: 50, Service: "order", From: 1, To: 2},      // warm-up: not counted, but remembered
			{T: 120, Service: "order", From: 2, To: 1},     // 1: undoes it after 70 s
			{T: 130, Service: "order", From: 1, To: 1},     // no change
			{T: 140, Service: "order", From: 1, To: 4},     // 2: undoes
			{T: 150, Service: "order", From: 4, To: 6},     // 3: the same way
			{T: 160, Service: "inventory", From: 6, To: 2}, // 4: another service
			{T: 450, Service: "order", From: 6, To: 3},     // 5: undoes after exactly 300 s
			{T: 751, Service: "order", From: 3, To: 4},     // 6: turns, but 301 s later
			{T: 2000, Service: "order", From: 4, To: 3},    // after the end
		},
	}
	has(t, Measures(r), map[string]float64{"scaling_actions": 6, "flapping": 3})
}

func TestCost(t *testing.T) {
	r := &Recording{
		Timelapse: 10, Warmup: 20, Duration: 120,
		Services: []Service{
			// 30 s of 2, then 70 s of 5, and what went before is free: 410.
			{Name: "order", Running: steps(0, 9, 20, 2, 50, 5), Ready: steps(0, 1)},
			{Name: "bank", Running: steps(0, 1)}, // 100
			{Name: "session"},
		},
		Nodes: steps(0, 3, 70, 4), // 50 × 3 + 50 × 4
	}
	has(t, Measures(r), map[string]float64{"replica_seconds": 510, "node_seconds": 350})
	has(t, Measures(&Recording{Duration: 10, Services: []Service{{Name: "order", Ready: steps(0, 1)}}}),
		map[string]float64{"replica_seconds": unknown, "node_seconds": unknown})
}

func TestSkew(t *testing.T) {
	all := func(from, to, rate float64) Replica { return Replica{From: from, To: to, Calls: steps(from, rate)} }
	for name, c := range map[string]struct {
		replicas  []Replica
		timelapse float64
		want      float64
	}{
		"even": {replicas: []Replica{all(0, 100, 10), all(0, 100, 10)}, want: 1},
		"one of four has everything": {
			replicas: []Replica{all(0, 100, 40), all(0, 100, 0), all(0, 100, 0), all(0, 100, 0)}, want: 4,
		},
		"weighted by calls": {
			// [0, 50): 15 and 5 calls/s: skew 1.5, 1000 calls. [50, 100): 10 each
			// of three: skew 1, 1500 calls. (1500 + 1500) ÷ 2500.
			replicas: []Replica{
				{To: 100, Calls: steps(0, 15, 50, 10)}, {To: 100, Calls: steps(0, 5, 50, 10)}, all(50, 100, 10),
			},
			want: 1.2,
		},
		"alone for a time": {
			// [0, 60) does not count: there is nobody to share with.
			replicas: []Replica{all(0, 100, 9), all(60, 100, 3)}, want: 1.5,
		},
		"too few calls": {
			// 100 s × 0.5 + 100 s × 0.4 are 90 calls, less than 50 each.
			replicas: []Replica{all(0, 100, 0.5), all(0, 100, 0.4)}, want: unknown,
		},
		"just enough calls": {
			// 60 and 40: the busiest has 60 of a mean of 50.
			replicas: []Replica{all(0, 100, 0.6), all(0, 100, 0.4)}, want: 1.2,
		},
		"too few calls in time-lapse": {
			// 100 scenario seconds are 10 real ones: 6 and 4 calls.
			replicas: []Replica{all(0, 100, 0.6), all(0, 100, 0.4)}, timelapse: 10, want: unknown,
		},
		"one replica": {replicas: []Replica{all(0, 100, 10)}, want: unknown},
		"none":        {want: unknown},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Recording{Duration: 100, Timelapse: c.timelapse, Services: []Service{{Name: "session", Replicas: c.replicas}}}
			has(t, Measures(r), map[string]float64{"load_skew": c.want, "load_skew.session": c.want})
		})
	}
	r := &Recording{Duration: 100, Services: []Service{
		{Name: "session", Replicas: []Replica{all(0, 100, 30), all(0, 100, 10)}},
		{Name: "order", Replicas: []Replica{all(0, 100, 10), all(0, 100, 10)}},
	}}
	has(t, Measures(r), map[string]float64{"load_skew": 1.5, "load_skew.session": 1.5, "load_skew.order": 1})
}

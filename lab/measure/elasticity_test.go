package measure

import (
	"math"
	"testing"
)

func TestFollow(t *testing.T) {
	for name, c := range map[string]struct {
		demand, supply Series
		from, to       float64
		want           Elasticity
	}{
		"perfect": {
			demand: steps(0, 2, 50, 4), supply: steps(0, 2, 50, 4), to: 100,
		},
		"by hand": {
			// time    0–20  20–50  50–60  60–80  80–100
			// demand     2      4      4      2       2
			// supply     2      2      4      4       3
			// missing    0    2/4      0      0       0
			// excess     0      0      0    2/2     1/2
			demand: steps(0, 2, 20, 4, 60, 2), supply: steps(0, 2, 50, 4, 80, 3), to: 100,
			want: Elasticity{
				ThetaU: 15, // 30 s × 1/2 of 100 s
				ThetaO: 30, // 20 s × 1 + 20 s × 1/2
				TauU:   30, TauO: 40,
				// Steps that end at 15, 30, 45, 60, 75, 90. Demand: = + = − = =.
				// Supply: = = = + = −. They part at 30, 60 and 90: 3 of 6.
				Instability: 50,
			},
		},
		"only the measured time": {
			demand: steps(0, 2, 20, 4, 60, 2), supply: steps(0, 2, 50, 4, 80, 3), from: 40, to: 60,
			want: Elasticity{ThetaU: 25, TauU: 50, Instability: 100}, // [40, 50) of 20 s; one step, 40 to 55
		},
		"never enough": {
			demand: steps(0, 4), supply: steps(0, 1), to: 10, want: Elasticity{ThetaU: 75, TauU: 100},
		},
		"nothing ready": {
			demand: steps(0, 4), supply: steps(0, 0), to: 10, want: Elasticity{ThetaU: 100, TauU: 100},
		},
		"excess has no bound": {
			demand: steps(0, 1), supply: steps(0, 4), to: 10, want: Elasticity{ThetaO: 300, TauO: 100},
		},
		"opposite ways": {
			demand: steps(0, 2, 40, 1), supply: steps(0, 2, 40, 3), to: 45,
			// Steps that end at 15 and 30; 45 itself is outside. Moved first at 40.
			want: Elasticity{ThetaO: 100 * 5 * 2 / 45.0, TauO: 100 * 5 / 45.0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Follow(c.demand, c.supply, c.from, c.to)
			has(t,
				map[string]float64{"θU": got.ThetaU, "θO": got.ThetaO, "τU": got.TauU, "τO": got.TauO, "υ": got.Instability},
				map[string]float64{"θU": c.want.ThetaU, "θO": c.want.ThetaO, "τU": c.want.TauU, "τO": c.want.TauO, "υ": c.want.Instability})
		})
	}
}

func TestElasticityIsTheMeanOfTheScaledServices(t *testing.T) {
	r := &Recording{
		Duration: 100, Rate: steps(0, 100), Mix: map[string]float64{"buy": 1},
		Services: []Service{
			// Needs 100 × 2 ÷ 50 = 4, has 3: a quarter is missing all the time.
			{Name: "inventory", Scaled: true, Ready: steps(0, 3), CapacityOfOne: 50, Visits: map[string]float64{"buy": 2}},
			// Needs 2, has 3: half of it in excess.
			{Name: "order", Scaled: true, Ready: steps(0, 3), CapacityOfOne: 50, Visits: map[string]float64{"buy": 1}},
			// Is outside anybody's control, and would be in dire need.
			{Name: "bank", Ready: steps(0, 1), CapacityOfOne: 1, Visits: map[string]float64{"buy": 1}},
			// Nobody knows what it needs.
			{Name: "session", Scaled: true, Ready: steps(0, 1), CapacityOfOne: 50},
		},
	}
	has(t, Measures(r), map[string]float64{
		"theta_u.inventory": 25, "theta_u.order": 0, "theta_u": 12.5,
		"theta_o.inventory": 0, "theta_o.order": 50, "theta_o": 25,
		"tau_u.inventory": 100, "tau_u.order": 0, "tau_u": 50,
		"tau_o.inventory": 0, "tau_o.order": 100, "tau_o": 50,
		"instability": 0, "instability.order": 0,
		"theta_u.bank": unknown, "theta_u.session": unknown,
	})
	r.Services = r.Services[2:]
	has(t, Measures(r), map[string]float64{"theta_u": unknown, "theta_o": unknown, "tau_u": unknown, "tau_o": unknown, "instability": unknown})
}

func TestDemand(t *testing.T) {
	for name, c := range map[string]struct {
		recording Recording
		service   Service
		want      Series
	}{
		"rounded up, at least one": {
			// ÷ 50: 0, 1, 1.02, 2.
			recording: Recording{Rate: steps(0, 0, 10, 50, 20, 51, 30, 100), Mix: map[string]float64{"browse": 1}},
			service:   Service{CapacityOfOne: 50, Visits: map[string]float64{"browse": 1}},
			want:      steps(0, 1, 10, 1, 20, 2, 30, 2),
		},
		"by kind": {
			// A journey makes 0.8 × 1 + 0.2 × 6 = 2 visits: 200/s over 45 is 4.4.
			recording: Recording{Rate: steps(0, 100), Mix: map[string]float64{"browse": 0.8, "buy": 0.2}},
			service:   Service{CapacityOfOne: 45, Visits: map[string]float64{"browse": 1, "buy": 6}},
			want:      steps(0, 5),
		},
		"a kind without visits makes none": {
			recording: Recording{Rate: steps(0, 100), Mix: map[string]float64{"browse": 0.8, "buy": 0.2}},
			service:   Service{CapacityOfOne: 10, Visits: map[string]float64{"buy": 1}},
			want:      steps(0, 2),
		},
		"of any kind": {
			recording: Recording{Rate: steps(0, 100)},
			service:   Service{CapacityOfOne: 50, Visits: map[string]float64{"any": 3}},
			want:      steps(0, 6),
		},
		"a rounding error is no replica": {
			// 0.1 × 3 is a little more than 0.3 in floating point.
			recording: Recording{Rate: steps(0, 3), Mix: map[string]float64{"buy": 1}},
			service:   Service{CapacityOfOne: 0.3, Visits: map[string]float64{"buy": 0.1}},
			want:      steps(0, 1),
		},
		"measured in the second half of the warm-up": {
			// Time-lapse 10. In [20, 40) 2 real seconds with 40 journeys each and
			// 100 calls/s: 2.5 visits. What came before does not count. 200/s × 2.5
			// over 100 is 5.
			recording: Recording{
				Timelapse: 10, Warmup: 40, Duration: 100, Rate: steps(0, 40, 40, 200),
				Load: []Load{
					{T: 0, Dur: 10, Counts: Counts{Offered: 999}}, {T: 10, Dur: 10, Counts: Counts{Offered: 999}},
					{T: 20, Dur: 10, Counts: Counts{Offered: 38}}, {T: 30, Dur: 10, Counts: Counts{Offered: 42}},
					{T: 40, Dur: 10, Counts: Counts{Offered: 999}},
				},
			},
			service: Service{CapacityOfOne: 100, Offered: steps(0, 0, 20, 100, 40, 999)},
			want:    steps(0, 1, 40, 5),
		},
		"no warm-up": {
			recording: Recording{Duration: 100, Rate: steps(0, 40), Load: seconds(1, 2, 3)},
			service:   Service{CapacityOfOne: 100, Offered: steps(0, 100)},
		},
		"no capacity": {
			recording: Recording{Rate: steps(0, 40)}, service: Service{Visits: map[string]float64{"any": 1}},
		},
		"no plan": {service: Service{CapacityOfOne: 1, Visits: map[string]float64{"any": 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Demand(&c.recording, c.service)
			if ok != (c.want != nil) || len(got) != len(c.want) {
				t.Fatalf("got %v (there: %v), want %v", got, ok, c.want)
			}
			for i, p := range c.want {
				if got[i] != p {
					t.Errorf("point %d: got %v, want %v", i, got[i], p)
				}
			}
		})
	}
}

func TestNoFigureIsEverNotANumber(t *testing.T) {
	for name, r := range map[string]*Recording{
		"no time": {Warmup: 10, Duration: 10, Rate: steps(0, 1), Nodes: steps(0, 1), Services: []Service{
			{Name: "a", Scaled: true, Ready: steps(0, 1), Running: steps(0, 1), Pressure: steps(0, 1), CapacityOfOne: 1,
				Visits: map[string]float64{"any": 1}, Calls: steps(0, 1), Attempts: steps(0, 1)}}},
		"no share": {Duration: 10, Rate: steps(0, 1), Services: []Service{
			{Name: "a", Scaled: true, Ready: steps(0, 1), CapacityOfOne: 1, Visits: map[string]float64{"buy": 1}}}},
		"no calls": {Duration: 10, Services: []Service{
			{Name: "a", Calls: steps(0, 0), Attempts: steps(0, 0), Replicas: []Replica{{To: 10, Calls: steps(0, 0)}, {To: 10, Calls: steps(0, 0)}}}}},
	} {
		for key, v := range Measures(r) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s: %s is %v", name, key, v)
			}
		}
	}
}

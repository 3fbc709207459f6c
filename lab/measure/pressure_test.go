package measure

import "testing"

func TestPressureAndOverload(t *testing.T) {
	r := &Recording{
		Warmup: 10, Duration: 110,
		Services: []Service{
			// Above 1 in [30, 50): 20 s. The 9 lies in the warm-up.
			{Name: "order", Pressure: steps(0, 9, 10, 0.5, 30, 1.4, 50, 1)},
			// Above 1 in [40, 60): 20 s, 10 of them together with order.
			{Name: "inventory", Pressure: steps(0, 0.2, 40, 2.5, 60, 0.9)},
			// Called without a ready replica in [80, 90), where pressure has no
			// finite value; not called in [90, 100), so it cannot drown.
			{Name: "bank", Offered: steps(0, 5, 90, 0), Capacity: steps(0, 10, 80, 0, 100, 10), Pressure: steps(0, 0.5)},
		},
	}
	has(t, Measures(r), map[string]float64{
		"peak_pressure.order": 1.4, "peak_pressure.inventory": 2.5, "peak_pressure.bank": 0.5,
		"overload_seconds": 40, // [30, 60) and [80, 90)
	})
}

func TestOverloadIsUnknownWithoutPressure(t *testing.T) {
	r := &Recording{Duration: 10, Services: []Service{{Name: "order", Ready: steps(0, 1)}}}
	has(t, Measures(r), map[string]float64{"overload_seconds": unknown, "peak_pressure.order": unknown})
}

func TestAmplificationMultipliesOverLayers(t *testing.T) {
	// Everybody makes three attempts of everything: people ask the gateway for
	// 1/s. gateway → order: asked 1, sent 3. order serves 3 and asks inventory 3
	// times, of which 1 in 3 was asked for: 1; it sends 9.
	r := &Recording{
		Duration: 100, Timelapse: 10,
		Services: []Service{
			{Name: "gateway", Calls: steps(0, 1), Attempts: steps(0, 1)},
			{Name: "order", Calls: steps(0, 1), Attempts: steps(0, 3)},
			{Name: "inventory", Calls: steps(0, 3), Attempts: steps(0, 9)},
			{Name: "payment", Calls: steps(0, 2), Attempts: steps(0, 0)},
		},
		Edges: []Edge{
			{Caller: "gateway", Callee: "order", Calls: steps(0, 1)},
			{Caller: "order", Callee: "inventory", Calls: steps(0, 3)},
		},
	}
	has(t, Measures(r), map[string]float64{
		"amplification.gateway": 1, "amplification.order": 3, "amplification.inventory": 9,
		"amplification.payment": 0, // asked, and nothing was sent
	})
}

func TestAmplificationOfTwoCallers(t *testing.T) {
	// catalog serves 10 attempts of 10 calls and asks inventory for 20: all asked
	// for. order serves 4 attempts of 2 calls and asks for 4: 2 were asked for.
	// 33 attempts of 22 calls are 1.5. Only [0, 50) has them; then it is quiet.
	quiet := func(v float64) Series { return steps(0, v, 50, 0) }
	r := &Recording{
		Duration: 100,
		Services: []Service{
			{Name: "catalog", Calls: quiet(10), Attempts: quiet(10)},
			{Name: "order", Calls: quiet(2), Attempts: quiet(4)},
			{Name: "inventory", Calls: quiet(24), Attempts: quiet(33)},
		},
		Edges: []Edge{
			{Caller: "catalog", Callee: "inventory", Calls: quiet(20)},
			{Caller: "order", Callee: "inventory", Calls: quiet(4)},
		},
	}
	has(t, Measures(r), map[string]float64{"amplification.inventory": 1.5, "amplification.order": 2})
}

func TestAmplificationUnderFault(t *testing.T) {
	// 600 calls of people at the gateway became 720 attempts at catalog, so of the
	// 500 that catalog asked inventory for 500 × 600 ÷ 720 = 416 2/3 were asked for:
	// 550 attempts are 1.32 of each. Nothing of it is in the series, in which a
	// short fault does not show.
	r := &Recording{
		Duration: 100,
		Services: []Service{
			{Name: "catalog", Calls: steps(0, 60), Attempts: steps(0, 60)},
			{Name: "inventory", Calls: steps(0, 50), Attempts: steps(0, 50)},
		},
		Edges: []Edge{
			{Caller: "gateway", Callee: "catalog", Calls: steps(0, 60)},
			{Caller: "catalog", Callee: "inventory", Calls: steps(0, 50)},
		},
		UnderFault: []Sent{
			{Caller: "gateway", Callee: "catalog", Calls: 600, Attempts: 720},
			{Caller: "catalog", Callee: "inventory", Calls: 500, Attempts: 550},
			{Caller: "gateway", Callee: "session", Calls: 0, Attempts: 0}, // not asked
		},
	}
	has(t, Measures(r), map[string]float64{
		"fault_amplification.catalog": 1.2, "fault_amplification.inventory": 1.32, "fault_amplification.session": unknown,
		"amplification.catalog": 1, "amplification.inventory": 1,
	})
	r.UnderFault = nil
	has(t, Measures(r), map[string]float64{"fault_amplification.inventory": unknown})
}

func TestAmplificationSurvivesACycle(t *testing.T) {
	r := &Recording{
		Duration: 10,
		Services: []Service{
			{Name: "a", Calls: steps(0, 1), Attempts: steps(0, 2)},
			{Name: "b", Calls: steps(0, 1), Attempts: steps(0, 1)},
		},
		Edges: []Edge{{Caller: "a", Callee: "b", Calls: steps(0, 1)}, {Caller: "b", Callee: "a", Calls: steps(0, 1)}},
	}
	if got := Measures(r)["amplification.a"]; got < 1 || got > 4 {
		t.Errorf("got %v", got)
	}
}

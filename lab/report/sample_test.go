package report

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"spillway.dev/lab/measure"
)

// sampleService is one service of the mesh that is made up here.
type sampleService struct {
	name    string
	callers map[string]float64 // visits per call of the caller
	one     float64            // calls per second of one replica
	start   int
	scales  bool
}

var sampleMesh = []sampleService{
	{"gateway", map[string]float64{"people": 1}, 60, 2, true},
	{"session", map[string]float64{"gateway": 1}, 90, 2, true},
	{"catalog", map[string]float64{"gateway": 0.7}, 60, 2, true},
	{"order", map[string]float64{"gateway": 0.3}, 25, 2, true},
	{"inventory", map[string]float64{"catalog": 0.5, "order": 1.2}, 45, 2, true},
	{"payment", map[string]float64{"order": 0.9}, 25, 2, true},
	{"bank", map[string]float64{"payment": 1}, 40, 1, false},
	{"ticketing", map[string]float64{"order": 0.8, "gateway": 0.1}, 40, 1, true},
}

// sampleResult is a run of a drop that is made up: a fluid model with chance
// from a fixed seed. Step is the distance of points in scenario seconds.
func sampleResult(duration, step float64, repeats int) *Result {
	scalers := []struct {
		name, says string
		scales     func(sampleService) bool
	}{
		{"nothing scales", "Every service keeps the replicas it began with", func(sampleService) bool { return false }},
		{"callers scale", "Only gateway and order have an autoscaler, on their CPU", func(s sampleService) bool { return s.name == "gateway" || s.name == "order" }},
		{"all scale", "Every service but the bank scales on its own CPU", func(s sampleService) bool { return s.scales }},
	}
	r := &Result{
		Scenario: "scale-out-pressure", Document: "docs/scenarios/scale-out-pressure.md",
		Question: "When the callers scale out in a drop, what happens to the services they depend on?",
		Command:  "spillway run scenarios/scale-out-pressure.yaml --repeat 5 --seed 42 --timelapse 10",
		Began:    time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC), Seed: 42, Commit: "e3b8658c91d2", Timelapse: 10, Valid: true, Cost: "replica_seconds",
		Environment: map[string]string{"Host": "2 cores, 4 GiB", "Go": "go1.26.8", "Kernel": "Linux 6.12", "Redis": "redis-server 7.4.2"},
		Expectations: []Expectation{
			{"goodput_ratio", true, "goodput of offered of “all scale” is at least 1.5 times that of “nothing scales”: 75.8 % and 44.1 %"},
			{"peak_pressure.bank", true, "highest pressure on bank of “all scale” is over that of “nothing scales”: 2.1 and 1.6"},
			{"p99_ms", false, "latency, 99th percentile, of “all scale” is at most 800 ms: found 1,420 ms"},
		},
	}
	for i, s := range scalers {
		rec := sampleRecording(s.name, s.scales, duration, step)
		var runs []map[string]float64
		random := rand.New(rand.NewPCG(7, uint64(i)))
		for range repeats {
			run := map[string]float64{}
			exact := sampleMeasures(rec)
			for _, key := range slices.Sorted(maps.Keys(exact)) {
				v := exact[key]
				run[key] = v
				if repeats > 1 && v != math.Trunc(v) {
					run[key] = v * (1 + 0.02*random.NormFloat64())
				}
			}
			runs = append(runs, run)
		}
		v := Variant{Name: s.name, Says: s.says, Repeats: repeats, Recording: rec, Measures: measure.Summarise(runs, 42)}
		v.Traces = append(v.Traces, sampleTrace(i))
		r.Variants = append(r.Variants, v)
	}
	return r
}

func sampleRecording(name string, scales func(sampleService) bool, duration, step float64) *measure.Recording {
	rec := &measure.Recording{Variant: name, Seed: 42, Timelapse: 10, Warmup: duration / 15, Duration: duration, LagP99: 1.8}
	random := rand.New(rand.NewPCG(42, uint64(len(name))))
	ready, desired, since := map[string]float64{}, map[string]int{}, map[string]float64{}
	series := map[string]*measure.Service{}
	calls := map[[2]string]measure.Series{}
	for _, s := range sampleMesh {
		ready[s.name], desired[s.name] = float64(s.start), s.start
		series[s.name] = &measure.Service{Name: s.name, Scaled: scales(s), CapacityOfOne: s.one, ServiceTime: 50, LatenessP50: 0.4 + 0.2*random.Float64()}
	}
	fault := measure.Window{From: duration * 0.7, To: duration * 0.78, Text: "slow-down 2 on payment"}
	rec.Faults = append(rec.Faults, fault)
	for t := 0.0; t < duration; t += step {
		x := t / duration
		base := 60 + 190*math.Exp(-math.Pow((x-0.42)/0.16, 2))
		if x > 0.3 && x < 0.36 {
			base += 80
		}
		offered := base * (1 + 0.04*random.NormFloat64())
		rate := map[string]float64{"people": offered}
		worst := 1.0
		for _, s := range sampleMesh {
			var in float64
			for _, caller := range []string{"people", "gateway", "catalog", "order", "payment"} {
				if visits, does := s.callers[caller]; does {
					n := rate[caller] * visits
					in += n
					calls[[2]string{caller, s.name}] = append(calls[[2]string{caller, s.name}], measure.Point{T: t, V: n})
				}
			}
			capacity := ready[s.name] * s.one
			if s.name == "payment" && t >= fault.From && t < fault.To {
				capacity /= 2
			}
			pressure := in / capacity
			rate[s.name] = min(in, capacity) * min(1.15, 1+0.15*max(pressure-1, 0))
			worst = min(worst, 1/max(pressure, 1e-9))
			v := series[s.name]
			point := func(to *measure.Series, v float64) { *to = append(*to, measure.Point{T: t, V: v}) }
			point(&v.Offered, in)
			point(&v.Capacity, capacity)
			point(&v.Pressure, pressure)
			point(&v.Ready, ready[s.name])
			point(&v.Desired, float64(desired[s.name]))
			point(&v.Utilization, min(pressure, 1))
			if scales(s) && t-since[s.name] >= duration/45 {
				want := int(math.Ceil(ready[s.name] * min(pressure, 1) / 0.7))
				if pressure < 0.5 && t-since[s.name] < duration/6 {
					want = desired[s.name]
				}
				want = max(want, s.start)
				if want != desired[s.name] {
					rec.Actions = append(rec.Actions, measure.Action{T: t, Service: s.name, From: desired[s.name], To: want,
						Reason: "cpu resource utilization (percentage of request) " + map[bool]string{true: "above target", false: "below target"}[want > desired[s.name]]})
					desired[s.name], since[s.name] = want, t
				}
			}
			if t-since[s.name] >= duration/90 {
				ready[s.name] = float64(desired[s.name])
			}
		}
		n := int64(offered * step / 10)
		good := int64(float64(n) * min(worst, 1) * 0.995)
		load := measure.Load{T: t, Dur: step, Counts: measure.Counts{Offered: n, Good: good, Late: (n - good) / 2, Shed: n - good - (n-good)/2}, P50: 90, P99: 140 + 900*(1-min(worst, 1)), P999: 1800}
		rec.Load = append(rec.Load, load)
		rec.HostCPU = append(rec.HostCPU, measure.Point{T: t, V: 0.55 + 0.1*random.Float64()})
		rec.Nodes = append(rec.Nodes, measure.Point{T: t, V: math.Ceil(ready["gateway"]/3) + 1})
	}
	for _, s := range sampleMesh {
		rec.Services = append(rec.Services, *series[s.name])
		for _, caller := range []string{"people", "gateway", "catalog", "order", "payment"} {
			if c := calls[[2]string{caller, s.name}]; c != nil {
				rec.Edges = append(rec.Edges, measure.Edge{Caller: caller, Callee: s.name, Calls: c})
			}
		}
	}
	return rec
}

// sampleMeasures are some measures that are near enough for a picture.
func sampleMeasures(rec *measure.Recording) map[string]float64 {
	out := map[string]float64{"lost_requests": 0, "double_executions": 0, "scaling_actions": float64(len(rec.Actions)), "recovery_seconds": 41.5}
	var offered, good, shed int64
	for _, l := range rec.Load {
		offered, good, shed = offered+l.Offered, good+l.Good, shed+l.Shed
	}
	real := rec.Duration / rec.Timelapse
	out["offered_per_s"], out["goodput_per_s"] = float64(offered)/real, float64(good)/real
	out["goodput_ratio"], out["shed_ratio"] = float64(good)/float64(offered), float64(shed)/float64(offered)
	out["goodput_ratio.critical"] = min(1, 1.1*out["goodput_ratio"])
	out["goodput_ratio.sheddable"] = 0.7 * out["goodput_ratio"]
	out["p50_ms"], out["p99_ms"], out["p999_ms"] = 91.4, 1900-1100*out["goodput_ratio"], 2400.5
	for _, s := range rec.Services {
		out["peak_pressure."+s.Name], _ = peak(s.Pressure)
		out["amplification."+s.Name] = 1 + 0.1*out["peak_pressure."+s.Name]
		out["overload_seconds"] = max(out["overload_seconds"], above(s.Pressure, 1, rec.Duration))
		for _, p := range s.Ready {
			out["replica_seconds"] += p.V * rec.Duration / float64(len(s.Ready))
		}
	}
	out["theta_u"], out["theta_o"], out["tau_u"], out["tau_o"], out["instability"] = 24.2, 8.1, 41.7, 20.3, 12.9
	out["node_seconds"] = out["replica_seconds"] / 6
	return out
}

func sampleTrace(i int) Trace {
	t := Trace{ID: fmt.Sprintf("%032x", i+1), At: 388, Journey: "buy", Millis: 1412.5 - 200*float64(i)}
	for j, s := range []Span{
		{0, "gateway", "spillway.gateway.v1.GatewayService/Checkout", 0, t.Millis, true, "DEADLINE_EXCEEDED"},
		{1, "gateway", "spillway.session.v1.SessionService/Touch", 2, 51, false, ""},
		{2, "session", "spillway.session.v1.SessionService/Touch", 2.4, 50.2, false, ""},
		{1, "gateway", "spillway.order.v1.OrderService/Checkout", 54, t.Millis - 54, true, "DEADLINE_EXCEEDED"},
		{2, "order", "spillway.order.v1.OrderService/Checkout", 54.6, t.Millis - 60, true, ""},
		{3, "order", "spillway.inventory.v1.InventoryService/Hold", 60, 420, false, ""},
		{4, "inventory", "spillway.inventory.v1.InventoryService/Hold", 61, 418, false, ""},
		{3, "order", "spillway.payment.v1.PaymentService/Charge", 482, t.Millis - 490, true, "the bank's quota is used up"},
		{4, "payment", "spillway.bank.v1.BankService/Capture", 500, t.Millis - 520, true, "BANK_QUOTA"},
	} {
		if j < 9 {
			t.Spans = append(t.Spans, s)
		}
	}
	return t
}

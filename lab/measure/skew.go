package measure

import "slices"

// enoughCalls is how many calls a replica must have had on average before their
// spread says anything: the count of 50 random arrivals has a standard error of
// 14 %.
const enoughCalls = 50

// skew adds load_skew and load_skew.SERVICE: calls of the busiest replica ÷ mean
// of the service's ready replicas. 1 is an even spread; n is one replica of n
// that has everything.
//
// The measured time is cut wherever a replica of the service becomes ready or
// stops being it. Within a stretch with at least two ready replicas and at least
// 50 calls to each on average the ratio is that of the calls counted; over the
// stretches it is the mean weighted by their calls. load_skew is the largest of
// the services.
func skew(r *Recording, out map[string]float64) {
	worst, any := 0.0, false
	for _, s := range r.Services {
		if v, ok := skewOf(s.Replicas, r); ok {
			out["load_skew."+s.Name] = v
			worst, any = max(worst, v), true
		}
	}
	if any {
		out["load_skew"] = worst
	}
}

func skewOf(replicas []Replica, r *Recording) (float64, bool) {
	cuts := Series{}
	for _, p := range replicas {
		cuts = append(cuts, Point{T: p.From}, Point{T: p.To})
	}
	weighted, weight := 0.0, 0.0
	pieces(r.Warmup, r.Duration, func(t, dt float64) {
		var calls []float64
		total := 0.0
		for _, p := range replicas {
			if p.From <= t && t+dt <= p.To && len(p.Calls) > 0 {
				n := p.Calls.integral(t, t+dt) / r.timelapse()
				calls = append(calls, n)
				total += n
			}
		}
		if n := float64(len(calls)); n >= 2 && total >= enoughCalls*n {
			weighted += total * slices.Max(calls) / (total / n)
			weight += total
		}
	}, cuts)
	return weighted / weight, weight > 0
}

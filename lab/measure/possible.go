package measure

import "math"

// possible adds capacity_goodput_ratio: good journeys ÷ those that the replicas
// could have served.
//
// In each bucket of the load the mesh could serve what was offered, but no more
// than its tightest service: ready replicas × calibrated capacity of one ÷
// visits of the mean journey. It is a bound for a mesh that wastes nothing and
// turns away whole journeys. Without a service of which capacity and visits are
// known there is no such figure.
func possible(r *Recording, out map[string]float64) {
	type tier struct {
		ready    Series
		journeys float64 // per real second, of one replica
	}
	var tiers []tier
	for _, s := range r.Services {
		visits, known := r.visits(s)
		if known && visits > 0 && s.CapacityOfOne > 0 && len(s.Ready) > 0 {
			tiers = append(tiers, tier{s.Ready, s.CapacityOfOne / visits})
		}
	}
	if len(tiers) == 0 {
		return
	}
	good, served := 0.0, 0.0
	for _, b := range r.Load {
		if !r.measured(b.T) {
			continue
		}
		tightest := math.Inf(1)
		for _, t := range tiers {
			tightest = min(tightest, t.ready.integral(b.T, b.T+b.Dur)/r.timelapse()*t.journeys)
		}
		good += float64(b.Good)
		served += min(float64(b.Offered), tightest)
	}
	if served > 0 {
		out["capacity_goodput_ratio"] = good / served
	}
}

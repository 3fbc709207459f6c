package measure

import "math"

const (
	// held is for how many scenario seconds the highest load belongs to its rise.
	// Kubernetes' autoscaler needs the better part of a minute for one tier (the
	// window of a rate, its next look, the start of a replica), in which nobody can
	// have followed; a chain whose tiers hear of the load one after the other needs
	// that three or four times. Who has not caught up by then will not in time.
	held = 180.0
	// nearly is the part of the highest load that counts as it: a shape that is
	// drawn in steps may just miss its own peak.
	nearly = 0.999
)

// rise adds rise_goodput_ratio: good ÷ offered journeys of the rise of the load.
// That is from when the plan first intends more than at the end of the warm-up
// until 180 scenario seconds after it first intended its most, or the end. A load
// that does not rise has none.
func rise(r *Recording, out map[string]float64) {
	base, ok := r.Rate.At(r.Warmup)
	if !ok {
		return
	}
	highest, _ := r.Rate.highest(r.Warmup, r.Duration)
	if highest <= base {
		return
	}
	from, peak := math.Inf(1), math.Inf(1)
	for _, p := range r.Rate {
		if !r.measured(p.T) {
			continue
		}
		if p.V > base {
			from = min(from, p.T)
		}
		if p.V >= nearly*highest {
			peak = min(peak, p.T)
		}
	}
	if good, offered := ratio(r.Load, from, min(peak+held, r.Duration)); offered {
		out["rise_goodput_ratio"] = good
	}
}

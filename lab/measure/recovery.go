package measure

import (
	"cmp"
	"math"
	"slices"
)

const (
	// recovered is the part of the goodput ratio before the fault that has to be
	// back.
	recovered = 0.95
	// settled is for how many scenario seconds.
	settled = 10.0
	// leastSettled is for how many of them when the run, or the time until the next
	// fault, has no more left.
	leastSettled = 5.0
)

// recovery adds recovery_seconds: scenario seconds from the end of a fault until
// people are served as before.
//
// As before means: over the next 10 scenario seconds (one bucket of the load
// when that is longer) good ÷ offered journeys is at least 95 % of what it was in
// the measured time before the first fault. At the end of the run, or before the
// next fault, what is left of the 10 s is enough when it is 5 s or more. Faults that
// overlap or touch count as one. When people are not served as before by the next fault or the end of
// the run, the time until then stands in: a lower bound. Of several faults the
// longest counts. A run without a fault, or without load before it, has no
// recovery.
func recovery(r *Recording, out map[string]float64) {
	faults := merged(r.Faults, r.Warmup, r.Duration)
	if len(faults) == 0 {
		return
	}
	before, ok := ratio(r.Load, r.Warmup, faults[0].From)
	if !ok {
		return
	}
	longest := 0.0
	for i, f := range faults {
		end := r.Duration
		if i+1 < len(faults) {
			end = faults[i+1].From
		}
		longest = max(longest, recoveredAt(r.Load, f.To, end, recovered*before)-f.To)
	}
	out["recovery_seconds"] = longest
}

// FaultTimes is the measured time in which a fault was in force, in order. Faults
// that overlap or touch are one; a kill has no duration and is not in it.
func (r *Recording) FaultTimes() []Window {
	var lasting []Window
	for _, f := range r.Faults {
		if f = (Window{From: max(f.From, r.Warmup), To: min(f.To, r.Duration)}); f.From < f.To {
			lasting = append(lasting, f)
		}
	}
	return merged(lasting, r.Warmup, math.Inf(1))
}

// merged is the faults that end within the measured time, those that overlap or
// touch made one.
func merged(faults []Window, from, to float64) []Window {
	sorted := slices.SortedFunc(slices.Values(faults), func(a, b Window) int { return cmp.Compare(a.From, b.From) })
	var out []Window
	for _, f := range sorted {
		if f.To < from || f.To >= to {
			continue
		}
		if n := len(out); n > 0 && f.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, f.To)
			continue
		}
		out = append(out, f)
	}
	return out
}

// recoveredAt is when the first bucket begins from which on the ratio is at
// least want for as long as settled says; end when there is none. The bucket in
// which the fault ends belongs to it, unless most of the bucket comes after.
func recoveredAt(load []Load, from, end, want float64) float64 {
	for _, b := range load {
		if b.T+b.Dur/2 < from {
			continue
		}
		if end-b.T < max(leastSettled, b.Dur) {
			break
		}
		until := min(b.T+max(settled, b.Dur), end)
		if got, ok := ratio(load, b.T, until); ok && got >= want {
			return max(b.T, from)
		}
	}
	return end
}

// ratio is good ÷ offered journeys of the buckets that begin in a time; false
// when none was offered.
func ratio(load []Load, from, to float64) (float64, bool) {
	var all Counts
	for _, b := range load {
		if b.T >= from && b.T < to {
			all.add(b.Counts)
		}
	}
	return float64(all.Good) / float64(all.Offered), all.Offered > 0
}

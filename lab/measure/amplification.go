package measure

import (
	"maps"
	"slices"
)

// amplification adds amplification.SERVICE: attempts that reached the service ÷
// calls that its users asked for, end to end over the measured time. Without
// repetitions it is 1. fault_amplification.SERVICE is the same of what was
// counted under faults, see Recording.UnderFault.
//
// A call that a caller makes while it serves a repetition was itself not asked
// for. So of a caller's calls only the part counts as asked for that the
// caller's own work was: asked(s) = Σ over callers c of calls(c → s) ×
// asked(c) ÷ attempts(c). Two layers that each make three attempts of
// everything come to 9 below them, not to 3 and 3. A service that no recorded
// edge leads to is asked by people, who do not repeat by themselves.
//
// Calls that a layer above refused were never made and count on neither side:
// shedding does not lower the figure.
func amplification(r *Recording, out map[string]float64) {
	whole := newTraffic()
	for _, s := range r.Services {
		if len(s.Attempts) > 0 {
			whole.attempts[s.Name] = s.Attempts.integral(r.Warmup, r.Duration)
		}
		whole.alone[s.Name] = s.Calls.integral(r.Warmup, r.Duration)
	}
	for _, e := range r.Edges {
		if len(e.Calls) > 0 {
			whole.add(e.Caller, e.Callee, e.Calls.integral(r.Warmup, r.Duration))
		}
	}
	whole.amplified("amplification.", out)

	faults := newTraffic()
	for _, e := range r.UnderFault {
		faults.attempts[e.Callee] += e.Attempts
		faults.add(e.Caller, e.Callee, e.Calls)
	}
	faults.amplified("fault_amplification.", out)
}

// traffic is what was asked for and sent in some time, in any unit: the ratio
// loses it.
type traffic struct {
	attempts map[string]float64 // that reached a service
	edges    map[string][]edge  // to a service
	alone    map[string]float64 // calls of a service that no edge leads to

	asked map[string]float64
	busy  map[string]bool
}

// edge is how many calls a caller made.
type edge struct {
	caller string
	calls  float64
}

func newTraffic() traffic {
	return traffic{
		attempts: make(map[string]float64), edges: make(map[string][]edge), alone: make(map[string]float64),
		asked: make(map[string]float64), busy: make(map[string]bool),
	}
}

func (t traffic) add(caller, callee string, calls float64) {
	t.edges[callee] = append(t.edges[callee], edge{caller, calls})
}

// amplified adds a figure for each service of which attempts are known and that
// was asked.
func (t traffic) amplified(key string, out map[string]float64) {
	for _, service := range slices.Sorted(maps.Keys(t.attempts)) { // in a cycle it matters who is first
		made := t.attempts[service]
		if asked := t.askedFor(service); asked > 0 {
			out[key+service] = made / asked
		}
	}
}

// askedFor is how many calls to a service its users asked for.
func (t traffic) askedFor(service string) float64 {
	if n, done := t.asked[service]; done {
		return n
	}
	// A cycle of calls has no first asker; the edge that closes it counts whole.
	t.busy[service] = true
	defer delete(t.busy, service)
	total := 0.0
	for _, e := range t.edges[service] {
		part := 1.0
		if made := t.attempts[e.caller]; made > 0 && !t.busy[e.caller] {
			part = min(t.askedFor(e.caller)/made, 1)
		}
		total += e.calls * part
	}
	if len(t.edges[service]) == 0 {
		total = t.alone[service]
	}
	t.asked[service] = total
	return total
}

package measure

// amplification adds amplification.SERVICE: attempts that reached the service ÷
// calls that its users asked for, end to end over the measured time. Without
// repetitions it is 1. fault_amplification.SERVICE is the same over the time in
// which a fault was in force, of those that have a duration.
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
	amplified(r, "amplification.", []Window{{From: r.Warmup, To: r.Duration}}, out)
	var faults []Window
	for _, f := range merged(r.Faults, r.Warmup, r.Duration+1) { // one that lasts to the end too
		faults = append(faults, Window{From: max(f.From, r.Warmup), To: min(f.To, r.Duration)})
	}
	amplified(r, "fault_amplification.", faults, out)
}

func amplified(r *Recording, key string, in []Window, out map[string]float64) {
	a := amplifier{recording: r, in: in, asked: make(map[string]float64), busy: make(map[string]bool), services: make(map[string]Service)}
	for _, s := range r.Services {
		a.services[s.Name] = s
	}
	for _, s := range r.Services {
		if asked := a.askedFor(s.Name); asked > 0 && len(s.Attempts) > 0 {
			out[key+s.Name] = a.attempts(s.Name) / asked
		}
	}
}

type amplifier struct {
	recording *Recording
	in        []Window // the time that counts; no two overlap
	services  map[string]Service
	asked     map[string]float64
	busy      map[string]bool
}

func (a amplifier) area(s Series) float64 {
	area := 0.0
	for _, w := range a.in {
		area += s.integral(w.From, w.To)
	}
	return area
}

func (a amplifier) attempts(service string) float64 { return a.area(a.services[service].Attempts) }

// askedFor is how many calls to a service its users asked for, in calls ×
// scenario seconds ÷ real seconds, a unit that the ratio loses.
func (a amplifier) askedFor(service string) float64 {
	if n, done := a.asked[service]; done {
		return n
	}
	// A cycle of calls has no first asker; the edge that closes it counts whole.
	a.busy[service] = true
	defer delete(a.busy, service)
	total, called := 0.0, false
	for _, e := range a.recording.Edges {
		if e.Callee != service || len(e.Calls) == 0 {
			continue
		}
		called = true
		part := 1.0
		if made := a.attempts(e.Caller); made > 0 && !a.busy[e.Caller] {
			part = min(a.askedFor(e.Caller)/made, 1)
		}
		total += a.area(e.Calls) * part
	}
	if !called {
		total = a.area(a.services[service].Calls)
	}
	a.asked[service] = total
	return total
}

package measure

// pressure adds how hard the services were pressed.
//
//   - peak_pressure.SERVICE: the highest pressure of the service, offered calls
//     ÷ what its ready replicas can answer. It has no finite value while no
//     replica is ready; that time counts as overload only.
//   - overload_seconds: scenario seconds in which at least one service drowned:
//     its pressure was above 1, or it was called and had no capacity at all.
//     Seconds in which several drowned count once.
func pressure(r *Recording, out map[string]float64) {
	var changes []Series
	for _, s := range r.Services {
		if top, ok := s.Pressure.highest(r.Warmup, r.Duration); ok {
			out["peak_pressure."+s.Name] = top
		}
		changes = append(changes, s.Pressure, s.Offered, s.Capacity)
	}
	seconds, known := 0.0, false
	pieces(r.Warmup, r.Duration, func(t, dt float64) {
		drowns := false
		for _, s := range r.Services {
			d, ok := s.drowns(t)
			known = known || ok
			drowns = drowns || d
		}
		if drowns {
			seconds += dt
		}
	}, changes...)
	if known {
		out["overload_seconds"] = seconds
	}
}

// drowns tells whether a service is offered more than it can answer; ok is false
// when that was not recorded.
func (s Service) drowns(t float64) (drowns, ok bool) {
	offered, hasOffered := s.Offered.At(t)
	capacity, hasCapacity := s.Capacity.At(t)
	if hasOffered && hasCapacity && capacity <= 0 {
		return offered > 0, true
	}
	pressure, ok := s.Pressure.At(t)
	return ok && pressure > 1, ok
}

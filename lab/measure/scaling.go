package measure

// flapWindow is how soon, in scenario seconds, a turn counts as flapping: the
// stabilisation that Kubernetes keeps by default before it scales down.
const flapWindow = 300.0

// scaling adds how often replicas were changed.
//
//   - scaling_actions: changes of the desired replicas of any service.
//   - flapping: those of them that undo: the service's change before went the
//     other way and was at most 300 scenario seconds ago.
//
// Without an autoscaler and without scaling by hand both are 0.
func scaling(r *Recording, out map[string]float64) {
	actions, flaps := 0, 0
	last := make(map[string]Action)
	for _, a := range r.Actions {
		if a.From == a.To {
			continue
		}
		if r.measured(a.T) {
			actions++
			before, ok := last[a.Service]
			if ok && (before.To > before.From) != (a.To > a.From) && a.T-before.T <= flapWindow {
				flaps++
			}
		}
		last[a.Service] = a
	}
	out["scaling_actions"], out["flapping"] = float64(actions), float64(flaps)
}

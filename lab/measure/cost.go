package measure

// cost adds what the run would have been paid for.
//
//   - replica_seconds: replicas of all services from their start until their
//     end is asked for × scenario seconds.
//   - node_seconds: nodes × scenario seconds.
func cost(r *Recording, out map[string]float64) {
	total, known := 0.0, false
	for _, s := range r.Services {
		total += s.Running.integral(r.Warmup, r.Duration)
		known = known || len(s.Running) > 0
	}
	if known {
		out["replica_seconds"] = total
	}
	if len(r.Nodes) > 0 {
		out["node_seconds"] = r.Nodes.integral(r.Warmup, r.Duration)
	}
}

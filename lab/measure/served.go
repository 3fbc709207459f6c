package measure

// measured tells whether a time counts: warm-up does not.
func (r *Recording) measured(t float64) bool { return t >= r.Warmup && t < r.Duration }

// timelapse is how many scenario seconds pass in a real one.
func (r *Recording) timelapse() float64 {
	if r.Timelapse <= 0 {
		return 1
	}
	return r.Timelapse
}

// add sums counts up.
func (c *Counts) add(d Counts) {
	c.Offered += d.Offered
	c.Good += d.Good
	c.Late += d.Late
	c.Refused += d.Refused
	c.Shed += d.Shed
	for reason, n := range d.Errors {
		if c.Errors == nil {
			c.Errors = make(map[string]int64)
		}
		c.Errors[reason] += n
	}
}

// Total is what became of all journeys that were meant to begin in the measured
// time, and how long that was in real seconds.
func Total(r *Recording) (all Counts, seconds float64) {
	for _, b := range r.Load {
		if r.measured(b.T) {
			all.add(b.Counts)
			seconds += b.Dur / r.timelapse()
		}
	}
	return all, seconds
}

// served adds what the people got.
//
//   - offered_per_s, goodput_per_s: offered and good journeys ÷ real seconds.
//   - goodput_ratio: good ÷ offered journeys; goodput_ratio.PRIORITY over the
//     journeys of one priority, journey_goodput_ratio.JOURNEY over those of one
//     kind.
//   - shed_ratio: shed ÷ offered journeys.
//   - p50_ms, p99_ms, p999_ms: as the generator counted them for the whole time.
func served(r *Recording, out map[string]float64) {
	all, seconds := Total(r)
	if seconds > 0 {
		out["offered_per_s"] = float64(all.Offered) / seconds
		out["goodput_per_s"] = float64(all.Good) / seconds
	}
	if all.Offered > 0 {
		out["goodput_ratio"] = float64(all.Good) / float64(all.Offered)
		out["shed_ratio"] = float64(all.Shed) / float64(all.Offered)
	}
	shares(r, out, "goodput_ratio.", func(b Load) map[string]Counts { return b.ByPriority })
	shares(r, out, "journey_goodput_ratio.", func(b Load) map[string]Counts { return b.ByJourney })
	if r.Whole.Answered > 0 {
		out["p50_ms"], out["p99_ms"], out["p999_ms"] = r.Whole.P50, r.Whole.P99, r.Whole.P999
	}
}

// shares adds good ÷ offered journeys of each part that by tells of a bucket.
func shares(r *Recording, out map[string]float64, key string, by func(Load) map[string]Counts) {
	whole := make(map[string]Counts)
	for _, b := range r.Load {
		if !r.measured(b.T) {
			continue
		}
		for name, c := range by(b) {
			sum := whole[name]
			sum.add(c)
			whole[name] = sum
		}
	}
	for name, c := range whole {
		if c.Offered > 0 {
			out[key+name] = float64(c.Good) / float64(c.Offered)
		}
	}
}

// counted adds what was counted, where somebody looked.
func counted(r *Recording, out map[string]float64) {
	for key, n := range map[string]*int64{
		"lost_requests":     r.Lost,
		"double_executions": r.Doubles,
		"sessions_lost":     r.SessionsLost,
		"quota_breaches":    r.QuotaBreaches,
	} {
		if n != nil {
			out[key] = float64(*n)
		}
	}
}

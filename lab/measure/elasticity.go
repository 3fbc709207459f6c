package measure

// adaptation is the step, in scenario seconds, at which supply and demand are
// compared for instability: the period at which Kubernetes' autoscaler decides,
// so no supply can follow faster.
const adaptation = 15.0

// Elasticity is how well supply followed demand, in percent of the measured
// time.
type Elasticity struct {
	// ThetaU and ThetaO are the accuracy of under- and over-provisioning: how
	// many of the needed replicas were missing, or were there in excess, on
	// average over time. 0 is best; ThetaO can exceed 100.
	ThetaU, ThetaO float64
	// TauU and TauO are the shares of time with too few and too many.
	TauU, TauO float64
	// Instability is the share of time in which supply and demand did not move
	// in the same direction.
	Instability float64
}

// Follow compares a supply curve s with a demand curve d over [from, to) by the
// elasticity metrics of the SPEC Research Group:
//
//	θ_U = 100/T · Σ max(d − s, 0)/d · Δt
//	θ_O = 100/T · Σ max(s − d, 0)/d · Δt
//	τ_U = 100/T · Σ max(sgn(d − s), 0) · Δt
//	τ_O = 100/T · Σ max(sgn(s − d), 0) · Δt
//	υ   = 100/(T − t₁) · Σ_{t≥2} min(|sgn(Δs) − sgn(Δd)|, 1) · Δt
//
// Herbst, Bauer, Kounev et al., "Quantifying Cloud Performance and
// Dependability: Taxonomy, Metric Design, and Emerging Challenges", ACM
// ToMPECS 3(4), 2018; first proposed in Herbst, Krebs et al., "Ready for Rain? A
// View from SPEC Research on the Future of Cloud Metrics", SPEC-RG-2016-01.
// Both accuracies are normalised by the demand of the moment, as there and as
// restated by Imdoukh, Ahmad and Alfailakawi, "Machine learning-based
// auto-scaling for containerized applications", Neural Computing and
// Applications 32, 2020, equations 12 and 13. Other papers differ: BUNGEE (SEAMS
// 2015) does not normalise and counts jitter, the surplus of supply changes over
// demand changes per minute, where υ stands here.
//
// Both curves are steps, so the first four are exact sums over the stretches in
// which neither changes. υ compares changes and so needs a step of its own: 15
// scenario seconds.
func Follow(demand, supply Series, from, to float64) Elasticity {
	var e Elasticity
	pieces(from, to, func(t, dt float64) {
		d, _ := demand.At(t)
		s, _ := supply.At(t)
		switch share := dt / (to - from) * 100; {
		case s < d:
			e.ThetaU += (d - s) / d * share
			e.TauU += share
		case s > d:
			e.ThetaO += (s - d) / d * share
			e.TauO += share
		}
	}, demand, supply)
	steps, apart := 0.0, 0.0
	for t := from + adaptation; t < to; t += adaptation {
		steps++
		if sign(supply, t) != sign(demand, t) {
			apart++
		}
	}
	if steps > 0 {
		e.Instability = 100 * apart / steps
	}
	return e
}

// sign is the direction in which a series moved in the step that ends at t.
func sign(s Series, t float64) float64 {
	now, _ := s.At(t)
	before, _ := s.At(t - adaptation)
	switch {
	case now > before:
		return 1
	case now < before:
		return -1
	}
	return 0
}

// elasticity adds theta_u, theta_o, tau_u, tau_o and instability, each in
// percent: of every scaled service under KEY.SERVICE, and as KEY their mean, in
// which every service weighs the same. Supply is ready replicas, demand is what
// Demand says.
func elasticity(r *Recording, out map[string]float64) {
	services, demand := scaled(r)
	if len(services) == 0 || r.Warmup >= r.Duration {
		return
	}
	for i, s := range services {
		e := Follow(demand[i], s.Ready, r.Warmup, r.Duration)
		for key, v := range map[string]float64{
			"theta_u": e.ThetaU, "theta_o": e.ThetaO, "tau_u": e.TauU, "tau_o": e.TauO, "instability": e.Instability,
		} {
			out[key+"."+s.Name] = v
			out[key] += v / float64(len(services))
		}
	}
}

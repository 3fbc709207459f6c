package measure

import (
	"math"
	"slices"
)

// AnyJourney stands in Service.Visits for the mean journey, where visits are not
// known by kind.
const AnyJourney = "any"

// slack is the part of a replica by which a quotient may miss a whole number
// through rounding: 300.0000000001 calls still fit into what answers 300.
const slack = 1e-9

// Demand is the demand curve of a service: how many replicas it needs so that
// what people ask for can be answered.
//
// It is offered journeys per real second by kind × visits per journey ÷
// calibrated capacity of one replica, rounded up, and at least 1. Offered
// journeys are those that the plan intends, so that the chance in arrivals is
// no demand, and refusals, which come later, hide none. No head-room is added:
// the curve is the least supply that can answer at all.
//
// Visits come from the scenario, by kind of journey. Without them the mean
// journey's are measured: calls that reached the service ÷ journeys offered, in
// the second half of the warm-up, when the mesh is not loaded, nothing is
// repeated or refused, and windows of rates are full. False when neither is
// there.
func Demand(r *Recording, s Service) (Series, bool) {
	if s.CapacityOfOne <= 0 || len(r.Rate) == 0 {
		return nil, false
	}
	visits, ok := r.visits(s)
	if !ok {
		return nil, false
	}
	curve := make(Series, 0, len(r.Rate))
	for _, p := range r.Rate {
		replicas := math.Ceil(p.V*visits/s.CapacityOfOne - slack)
		curve = append(curve, Point{T: p.T, V: max(replicas, 1)})
	}
	return curve, true
}

// visits is how many calls to a service the mean journey of the mix makes.
func (r *Recording) visits(s Service) (float64, bool) {
	if len(s.Visits) > 0 {
		if v, all := s.Visits[AnyJourney]; all {
			return v, true
		}
		sum, shares := 0.0, 0.0
		for kind, share := range r.Mix {
			sum += share * s.Visits[kind]
			shares += share
		}
		return sum / shares, shares > 0
	}
	from, to := r.Warmup/2, r.Warmup
	var journeys, seconds float64
	for _, b := range r.Load {
		if b.T >= from && b.T+b.Dur <= to {
			journeys += float64(b.Offered)
			seconds += b.Dur
		}
	}
	if journeys == 0 || len(s.Offered) == 0 {
		return 0, false
	}
	// Calls per real second against journeys per real second.
	perSecond := s.Offered.integral(from, to) / (to - from)
	return perSecond / (journeys / seconds * r.timelapse()), true
}

// scaled is the services that can be judged against a demand curve, with it.
func scaled(r *Recording) (services []Service, demand []Series) {
	for _, s := range r.Services {
		if !s.Scaled || len(s.Ready) == 0 {
			continue
		}
		if curve, ok := Demand(r, s); ok {
			services, demand = append(services, s), append(demand, curve)
		}
	}
	return slices.Clip(services), slices.Clip(demand)
}

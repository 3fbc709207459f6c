package fault

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/mesh"
)

// bank is the service that BankQuota is about.
const bank = "bank"

// Names of the knobs that faults turn.
const (
	slowdownKnob = "capacity.slowdown"
	startKnob    = "start.delay"
	quotaKnob    = "bank.quota_per_second"
)

// turns names the knob that a fault turns; empty for faults of another kind.
func (f Fault) turns() string {
	switch {
	case f.SlowDown != nil:
		return slowdownKnob
	case f.SlowStart != nil:
		return startKnob
	case f.BankQuota != nil:
		return quotaKnob
	}
	return ""
}

// values is values of knobs, by service and name.
type values map[string]map[string]string

func (v values) get(service, name string) string { return v[service][name] }

func (v values) set(service, name, value string) {
	if v[service] == nil {
		v[service] = make(map[string]string)
	}
	v[service][name] = value
}

func (v values) clone() values {
	out := make(values, len(v))
	for service, own := range v {
		out[service] = maps.Clone(own)
	}
	return out
}

// demand is what all faults in force together ask of the mesh.
type demand struct {
	mesh  map[string][]mesh.Fault // by callee
	knobs values
	// Endpoint updates come late, or not at all.
	late time.Duration
	drop bool
	down map[string]bool // stores
}

// compose works out the demand of faults, in the order in which they began, over the knobs that were set by hand.
// defaults has the values of knobs that were not.
func compose(faults []Fault, set, defaults values) demand {
	out := demand{mesh: make(map[string][]mesh.Fault), knobs: set.clone(), down: make(map[string]bool)}
	// Latency first, however they began: a call that is to fail waits like one that is not.
	for _, f := range faults {
		if e := f.Latency; e != nil {
			out.mesh[e.Callee] = append(out.mesh[e.Callee], mesh.Fault{Caller: e.Caller, Delay: e.Delay, DelayShare: e.all()})
		}
	}
	factors, delays := map[string]float64{}, map[string]time.Duration{}
	for _, f := range faults {
		switch {
		case f.Errors != nil:
			e := f.Errors
			out.mesh[e.Callee] = append(out.mesh[e.Callee], mesh.Fault{Caller: e.Caller, AbortCode: codes.Unavailable, AbortShare: e.all()})
		case f.SlowDown != nil:
			service := f.SlowDown.Service
			if _, begun := factors[service]; !begun {
				factors[service] = base(set, defaults, service, slowdownKnob, parseFactor)
			}
			factors[service] *= f.SlowDown.Factor
		case f.SlowStart != nil:
			service := f.SlowStart.Service
			if _, begun := delays[service]; !begun {
				delays[service] = base(set, defaults, service, startKnob, time.ParseDuration)
			}
			delays[service] += f.SlowStart.Delay
		case f.BankQuota != nil:
			out.knobs.set(bank, quotaKnob, strconv.Itoa(f.BankQuota.PerSecond))
		case f.Endpoints != nil:
			out.drop = out.drop || f.Endpoints.Delay == 0
			out.late = max(out.late, f.Endpoints.Delay)
		case f.Store != nil:
			out.down[f.Store.Name] = true
		}
	}
	for _, service := range slices.Sorted(maps.Keys(factors)) {
		factor := max(leastFactor, min(factors[service], mostFactor))
		out.knobs.set(service, slowdownKnob, strconv.FormatFloat(factor, 'g', -1, 64))
	}
	for _, service := range slices.Sorted(maps.Keys(delays)) {
		out.knobs.set(service, startKnob, delays[service].String())
	}
	return out
}

func parseFactor(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

// base is what a fault comes on top of: the value that was set by hand, else the default. Both were checked when they
// came in; where neither is known it is what does nothing.
func base[T float64 | time.Duration](set, defaults values, service, name string, parse func(string) (T, error)) T {
	for _, from := range []values{set, defaults} {
		if v, err := parse(from.get(service, name)); err == nil {
			return v
		}
	}
	if name == slowdownKnob {
		return 1
	}
	return 0
}

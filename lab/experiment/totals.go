package experiment

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"spillway.dev/lab/measure"
)

// pair is who calls whom.
type pair struct{ caller, callee string }

func (p pair) String() string { return p.caller + " → " + p.callee }

// doubles reads how many executions there were beyond those that callers asked
// for.
func (q reader) doubles(ctx context.Context, r *measure.Recording) error {
	ran, wanted := make(map[pair]float64), make(map[pair]float64)
	for metric, to := range map[string]map[pair]float64{
		`grpc_server_started_total{caller!="external"}`: ran,
		"grpc_client_started_total":                     wanted,
	} {
		add := func(of labels.Labels, n float64) { to[pair{of.Get("caller"), of.Get("callee")}] += n }
		if err := q.totals(ctx, metric, add); err != nil {
			return err
		}
	}
	r.Doubles, r.Uncounted = doubles(ran, wanted, q.cut)
	return nil
}

// doubles counts, pair by pair, what began at the callee's replicas less what the
// caller's began: an attempt that was sent again because nobody took the first one
// did not begin twice. Pairs whose caller was cut are left out: what its replica
// began after its last scrape nobody knows, and it would pass for executions that
// nobody asked for. There is no count when no pair is left.
func doubles(ran, wanted map[pair]float64, cut map[string]bool) (count *int64, uncounted []string) {
	n, counted := int64(0), len(ran) == 0
	for p, began := range ran {
		if cut[p.caller] {
			uncounted = append(uncounted, p.String())
			continue
		}
		counted = true
		n += max(0, int64(math.Round(began-wanted[p])))
	}
	slices.Sort(uncounted)
	if !counted {
		return nil, uncounted
	}
	return &n, uncounted
}

// underFault reads what callers asked for and sent while faults were in force.
func (q reader) underFault(ctx context.Context, r *measure.Recording) error {
	var faults []span
	for _, f := range r.FaultTimes() {
		faults = append(faults, span{q.at(f.From), q.at(f.To)})
	}
	if len(faults) == 0 {
		return nil
	}
	sums := make(map[pair]*measure.Sent)
	for metric, to := range map[string]func(*measure.Sent) *float64{
		"grpc_client_started_total":  func(s *measure.Sent) *float64 { return &s.Calls },
		"grpc_client_attempts_total": func(s *measure.Sent) *float64 { return &s.Attempts },
	} {
		all, err := q.store.Samples(ctx, metric, time.Since(q.since), time.Now())
		if err != nil {
			return err
		}
		for _, s := range all {
			p := pair{s.Metric.Get("caller"), s.Metric.Get("callee")}
			if sums[p] == nil {
				sums[p] = &measure.Sent{Caller: p.caller, Callee: p.callee}
			}
			*to(sums[p]) += within(s.Floats, faults)
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(sums), func(a, b pair) int { return cmp.Compare(a.String(), b.String()) }) {
		r.UnderFault = append(r.UnderFault, *sums[p])
	}
	return nil
}

// at is a scenario time in the time of samples.
func (q reader) at(seconds float64) int64 {
	return q.begin.Add(time.Duration(seconds / q.timelapse * float64(time.Second))).UnixMilli()
}

// span is a time in the time of samples, ms.
type span struct{ from, to int64 }

// within is how far a counter went between two scrapes, over all such stretches
// that a span reaches into: counts, of a little more than the spans. What a
// counter begins with is of the moment of its first scrape, since one that began
// in between has a 0 there.
func within(samples []promql.FPoint, spans []span) float64 {
	sum := 0.0
	for i, s := range samples {
		since, more := s.T, s.F
		if i > 0 {
			since = samples[i-1].T
			if last := samples[i-1].F; last <= s.F { // else its replica was started anew
				more -= last
			}
		}
		if slices.ContainsFunc(spans, func(f span) bool { return since < f.to && s.T > f.from }) {
			sum += more
		}
	}
	return sum
}

// totals tells how far each counter of a selector went, over all lives of all
// replicas that ever were.
func (q reader) totals(ctx context.Context, selector string, add func(labels.Labels, float64)) error {
	all, err := q.store.Samples(ctx, selector, time.Since(q.since), time.Now())
	if err != nil {
		return err
	}
	for _, s := range all {
		add(s.Metric, total(s.Floats))
	}
	return nil
}

// total is how far a counter went. It begins at 0 with its replica, and again
// wherever it falls: there the replica was started anew in its place. Nothing is
// extrapolated, for these are counts of events, not rates.
func total(samples []promql.FPoint) float64 {
	sum, last := 0.0, 0.0
	for _, s := range samples {
		if s.F < last {
			last = 0
		}
		sum += s.F - last
		last = s.F
	}
	return sum
}

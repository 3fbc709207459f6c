package experiment

import (
	"context"
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

// Package adapter lets the metrics rules be answered by a metrics store of this process, in a time-lapse.
package adapter

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"spillway.dev/lab/metrics/timelapse"
	"spillway.dev/platform/metricsrules"
)

// Query evaluates PromQL at a time, as a metrics store does. It is called
// concurrently.
type Query func(ctx context.Context, promql string, at time.Time) (promql.Vector, error)

// New compiles the rules. lapse shortens the durations in queries, and the window.
func New(c *metricsrules.Config, query Query, lapse timelapse.Lapse) (*metricsrules.Adapter, error) {
	return metricsrules.New(c, metricsrules.Mapper(), query.samples, dialect{lapse})
}

// samples is the query with its answer in the rules' terms.
func (q Query) samples(ctx context.Context, expr string, at time.Time) ([]metricsrules.Sample, error) {
	vector, err := q(ctx, expr, at)
	if err != nil {
		return nil, err
	}
	samples := make([]metricsrules.Sample, len(vector))
	for i, s := range vector {
		samples[i] = metricsrules.Sample{Labels: labelMap(s.Metric), Value: s.F}
	}
	return samples, nil
}

// labelMap is never nil: a value without labels has an empty set of them.
func labelMap(of labels.Labels) map[string]string {
	m := make(map[string]string, of.Len())
	of.Range(func(l labels.Label) { m[l.Name] = l.Value })
	return m
}

// dialect checks rules before the store sees them and divides durations.
type dialect struct{ lapse timelapse.Lapse }

var _ metricsrules.Dialect = dialect{}

// CheckSelector implements metricsrules.Dialect.
func (dialect) CheckSelector(query string) error {
	_, err := newParser().ParseMetricSelector(query)
	return err
}

// Query implements metricsrules.Dialect. It also finds a template that does not
// make PromQL before the store does.
func (d dialect) Query(query string) (string, error) { return d.lapse.Expr(query, newParser()) }

// Window implements metricsrules.Dialect.
func (d dialect) Window(window time.Duration) time.Duration {
	return max(time.Duration(float64(window)/d.lapse.By), min(d.lapse.Window, window))
}

// newParser reads PromQL as released, so that the rules work in a cluster too.
// A parser is cheap and keeps nothing.
func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

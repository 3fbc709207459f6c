package metrics

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// Bounds of a query, those of a Prometheus server by default.
const (
	queryTimeout = 2 * time.Minute
	querySamples = 50_000_000
)

// newParser returns the parser of PromQL as released: no experimental syntax,
// so that a rule file works in the cluster too.
func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

func newEngine(cfg Config, p parser.Parser) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger:                   cfg.Log,
		MaxSamples:               querySamples,
		Timeout:                  queryTimeout,
		LookbackDelta:            cfg.lookback(),
		NoStepSubqueryIntervalFn: func(int64) int64 { return cfg.interval().Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		Parser:                   p,
	})
}

// series answers PromQL over stored series. Safe for concurrent use.
type series struct {
	engine *promql.Engine
	data   storage.Queryable
}

// Query evaluates an expression at one time; a scalar comes as one sample
// without labels. The times in it are real ones, whatever the time-lapse.
func (s series) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	q, err := s.engine.NewInstantQuery(ctx, s.data, nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, result.Err)
	}
	switch v := result.Value.(type) {
	case promql.Vector:
		return v, nil
	case promql.Scalar:
		return promql.Vector{{T: v.T, F: v.V}}, nil
	}
	return nil, fmt.Errorf("query %q gives a %s; ask for samples at one time", expr, result.Value.Type())
}

// Samples are the stored samples of a selector, such as up{job="host"}, in the
// time of the given length before at, as they were scraped: nothing is
// interpolated, and what a series ended with is there.
func (s series) Samples(ctx context.Context, selector string, length time.Duration, at time.Time) (promql.Matrix, error) {
	expr := fmt.Sprintf("%s[%dms]", selector, length.Milliseconds())
	q, err := s.engine.NewInstantQuery(ctx, s.data, nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	defer q.Close()
	matrix, err := q.Exec(ctx).Matrix()
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	return keep(matrix), nil
}

// QueryRange evaluates an expression at from, from+step and so on until to, with
// both ends included.
func (s series) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	if step < time.Millisecond {
		return nil, fmt.Errorf("query %q: step is %v; give 1 ms or more", expr, step)
	}
	q, err := s.engine.NewRangeQuery(ctx, s.data, nil, expr, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, result.Err)
	}
	matrix, err := result.Matrix()
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	return keep(matrix), nil
}

// keep copies a matrix: the engine takes its points back when the query closes.
func keep(matrix promql.Matrix) promql.Matrix {
	kept := make(promql.Matrix, 0, len(matrix))
	for _, one := range matrix {
		kept = append(kept, promql.Series{
			Metric:     one.Metric,
			Floats:     append([]promql.FPoint(nil), one.Floats...),
			Histograms: append([]promql.HPoint(nil), one.Histograms...),
		})
	}
	return kept
}

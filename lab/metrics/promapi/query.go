package promapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// maxPoints bounds the points of a series in an answer, as Prometheus does.
const maxPoints = 11_000

// queried is the data of query and query_range.
type queried struct {
	ResultType parser.ValueType `json:"resultType"`
	Result     parser.Value     `json:"result"`
}

func (s Source) query(r *http.Request) answer {
	at, err := timeParameter(r, "time", time.Now())
	if err != nil {
		return badParameter("time", err)
	}
	return s.run(r, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return s.Engine.NewInstantQuery(ctx, s.Series, opts, r.FormValue("query"), at)
	})
}

func (s Source) queryRange(r *http.Request) answer {
	for _, name := range []string{"start", "end"} {
		if r.FormValue(name) == "" {
			return badParameter(name, errors.New(`cannot parse "" to a valid timestamp`))
		}
	}
	from, to, bad := period(r, minTime, maxTime)
	if bad != nil {
		return *bad
	}
	step, err := duration(r.FormValue("step"))
	if err != nil {
		return badParameter("step", err)
	}
	if step <= 0 {
		return badParameter("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	if to.Sub(from)/step > maxPoints {
		return failed(badData, errors.New("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"))
	}
	return s.run(r, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return s.Engine.NewRangeQuery(ctx, s.Series, opts, r.FormValue("query"), from, to, step)
	})
}

// run carries a query out, within the time that the request gives it.
func (s Source) run(r *http.Request, begin func(context.Context, promql.QueryOpts) (promql.Query, error)) answer {
	ctx := r.Context()
	limit, err := limitParameter(r)
	if err != nil {
		return badParameter("limit", err)
	}
	if text := r.FormValue("timeout"); text != "" {
		timeout, err := duration(text)
		if err != nil {
			return badParameter("timeout", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var lookback time.Duration
	if text := r.FormValue("lookback_delta"); text != "" {
		if lookback, err = duration(text); err != nil {
			return badParameter("lookback_delta", err)
		}
	}
	q, err := begin(ctx, promql.NewPrometheusQueryOpts(false, lookback))
	if err != nil {
		return badParameter("query", err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return failedQuery(result.Err)
	}
	value, truncated := own(result.Value, limit)
	warnings := result.Warnings
	if truncated {
		warnings = warnings.Add(errTruncated)
	}
	return answer{data: queried{value.Type(), value}, warnings: warnings}
}

// own is a copy of what the engine takes back when its query closes, with no
// more than limit series (0: all), and never nil, which JSON would show as null.
func own(value parser.Value, limit int) (_ parser.Value, truncated bool) {
	cut := func(n int) int {
		if limit > 0 && n > limit {
			truncated = true
			return limit
		}
		return n
	}
	switch v := value.(type) {
	case promql.Vector:
		return append(promql.Vector{}, v[:cut(len(v))]...), truncated
	case promql.Matrix:
		kept := promql.Matrix{}
		for _, one := range v[:cut(len(v))] {
			one.Floats, one.Histograms = slices.Clone(one.Floats), slices.Clone(one.Histograms)
			kept = append(kept, one)
		}
		return kept, truncated
	}
	return value, false
}

// exemplarsOf is the exemplars of one series.
type exemplarsOf struct {
	SeriesLabels labels.Labels  `json:"seriesLabels"`
	Exemplars    []exemplarData `json:"exemplars"`
}

type exemplarData struct {
	Labels    labels.Labels `json:"labels"`
	Value     string        `json:"value"`
	Timestamp float64       `json:"timestamp"`
}

func (s Source) queryExemplars(r *http.Request) answer {
	from, to, bad := period(r, minTime, maxTime)
	if bad != nil {
		return *bad
	}
	expr, err := s.Parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return badParameter("query", err)
	}
	found := []exemplarsOf{}
	selectors := parser.ExtractSelectors(expr)
	if len(selectors) == 0 {
		return answer{data: found}
	}
	q, err := s.Exemplars.ExemplarQuerier(r.Context())
	if err != nil {
		return failed(internal, err)
	}
	results, err := q.Select(timestamp.FromTime(from), timestamp.FromTime(to), selectors...)
	if err != nil {
		return failedQuery(err)
	}
	for _, result := range results {
		one := exemplarsOf{SeriesLabels: result.SeriesLabels}
		for _, e := range result.Exemplars {
			one.Exemplars = append(one.Exemplars, exemplarData{
				Labels: e.Labels, Value: strconv.FormatFloat(e.Value, 'f', -1, 64), Timestamp: float64(e.Ts) / 1000,
			})
		}
		found = append(found, one)
	}
	return answer{data: found}
}

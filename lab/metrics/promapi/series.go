package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

func (s Source) series(r *http.Request) answer {
	if len(r.Form["match[]"]) == 0 {
		return failed(badData, errors.New("no match[] parameter provided"))
	}
	return s.look(r, func(ctx context.Context, q storage.Querier, sets [][]*labels.Matcher, limit int) (any, annotations.Annotations, error) {
		hints := &storage.SelectHints{Func: "series"} // upstream's word for: no samples wanted
		found := make([]storage.SeriesSet, 0, len(sets))
		for _, set := range sets {
			found = append(found, q.Select(ctx, true, hints, set...))
		}
		all := storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
		metrics := []labels.Labels{}
		for all.Next() {
			if limit > 0 && len(metrics) == limit {
				warnings := all.Warnings()
				return metrics, warnings.Add(errTruncated), nil
			}
			metrics = append(metrics, all.At().Labels())
		}
		return metrics, all.Warnings(), all.Err()
	})
}

func (s Source) labelNames(r *http.Request) answer {
	return s.look(r, func(ctx context.Context, q storage.Querier, sets [][]*labels.Matcher, limit int) (any, annotations.Annotations, error) {
		return union(sets, limit, func(set []*labels.Matcher) ([]string, annotations.Annotations, error) {
			return q.LabelNames(ctx, &storage.LabelHints{}, set...)
		})
	})
}

func (s Source) labelValues(r *http.Request) answer {
	name := model.UnescapeName(r.PathValue("name"), model.ValueEncodingEscaping)
	if !model.UTF8Validation.IsValidLabelName(name) {
		return failed(badData, fmt.Errorf("invalid label name: %q", name))
	}
	return s.look(r, func(ctx context.Context, q storage.Querier, sets [][]*labels.Matcher, limit int) (any, annotations.Annotations, error) {
		return union(sets, limit, func(set []*labels.Matcher) ([]string, annotations.Annotations, error) {
			return q.LabelValues(ctx, name, &storage.LabelHints{}, set...)
		})
	})
}

// look reads the parameters that the three lookups share, and asks.
func (s Source) look(r *http.Request, ask func(context.Context, storage.Querier, [][]*labels.Matcher, int) (any, annotations.Annotations, error)) answer {
	limit, err := limitParameter(r)
	if err != nil {
		return badParameter("limit", err)
	}
	from, to, bad := period(r, minTime, maxTime)
	if bad != nil {
		return *bad
	}
	sets, err := s.matchers(r)
	if err != nil {
		return badParameter("match[]", err)
	}
	q, err := s.Series.Querier(timestamp.FromTime(from), timestamp.FromTime(to))
	if err != nil {
		return failed(internal, err)
	}
	defer q.Close()
	data, warnings, err := ask(r.Context(), q, sets, limit)
	if err != nil {
		return failedQuery(err)
	}
	return answer{data: data, warnings: warnings}
}

// union collects the strings of every set of matchers, sorted and each once; no
// sets stand for one that matches all.
func union(sets [][]*labels.Matcher, limit int, ask func([]*labels.Matcher) ([]string, annotations.Annotations, error)) (any, annotations.Annotations, error) {
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	all, warnings := []string{}, annotations.Annotations{}
	for _, set := range sets {
		some, more, err := ask(set)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, some...) // the storage may take its strings back
		warnings.Merge(more)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for i, text := range all {
		all[i] = string([]byte(text))
	}
	if limit > 0 && len(all) > limit {
		return all[:limit], warnings.Add(errTruncated), nil
	}
	return all, warnings, nil
}

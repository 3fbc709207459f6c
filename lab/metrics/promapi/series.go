package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

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
	return s.look(r, func(ctx context.Context, q storage.Querier, l lookup) (any, annotations.Annotations, error) {
		hints := &storage.SelectHints{
			Start: timestamp.FromTime(l.from), End: timestamp.FromTime(l.to),
			Func: "series", // upstream's word for: no samples wanted
		}
		found := make([]storage.SeriesSet, 0, len(l.sets))
		for _, set := range l.sets {
			found = append(found, q.Select(ctx, true, hints, set...))
		}
		all := storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
		metrics := []labels.Labels{}
		for all.Next() {
			if l.limit > 0 && len(metrics) == l.limit {
				warnings := all.Warnings()
				return metrics, warnings.Add(errTruncated), nil
			}
			metrics = append(metrics, all.At().Labels())
		}
		return metrics, all.Warnings(), all.Err()
	})
}

func (s Source) labelNames(r *http.Request) answer {
	return s.look(r, func(ctx context.Context, q storage.Querier, l lookup) (any, annotations.Annotations, error) {
		return union(l, func(set []*labels.Matcher) ([]string, annotations.Annotations, error) {
			return q.LabelNames(ctx, &storage.LabelHints{}, set...)
		})
	})
}

func (s Source) labelValues(r *http.Request) answer {
	name := model.UnescapeName(r.PathValue("name"), model.ValueEncodingEscaping)
	if !model.UTF8Validation.IsValidLabelName(name) {
		return failed(badData, fmt.Errorf("invalid label name: %q", name))
	}
	return s.look(r, func(ctx context.Context, q storage.Querier, l lookup) (any, annotations.Annotations, error) {
		return union(l, func(set []*labels.Matcher) ([]string, annotations.Annotations, error) {
			return q.LabelValues(ctx, name, &storage.LabelHints{}, set...)
		})
	})
}

// lookup is what the three lookups are asked with.
type lookup struct {
	sets     [][]*labels.Matcher
	from, to time.Time
	limit    int // 0: none
}

// look reads a lookup's parameters, and asks.
func (s Source) look(r *http.Request, ask func(context.Context, storage.Querier, lookup) (any, annotations.Annotations, error)) answer {
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
	data, warnings, err := ask(r.Context(), q, lookup{sets, from, to, limit})
	if err != nil {
		return failedQuery(err)
	}
	return answer{data: data, warnings: warnings}
}

// union collects the strings of every set of matchers, sorted and each once; no
// sets stand for one that matches all.
func union(l lookup, ask func([]*labels.Matcher) ([]string, annotations.Annotations, error)) (any, annotations.Annotations, error) {
	sets := l.sets
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
	if l.limit > 0 && len(all) > l.limit {
		return all[:l.limit], warnings.Add(errTruncated), nil
	}
	return all, warnings, nil
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"spillway.dev/platform/metricsrules"
)

const (
	// queryTimeout bounds a query: an HPA that waits for one metric scales on none.
	queryTimeout = 5 * time.Second
	// lookback is how old a series' last sample may be to count as its value now. Prometheus' own 5 minutes would have
	// HPAs scale on what was there before it, or what it scrapes, was away; scrapes and rules come every 30 s at most.
	lookback = time.Minute
)

// prometheusAt returns queries to the Prometheus at a URL.
func prometheusAt(url string) (metricsrules.Query, error) {
	client, err := api.NewClient(api.Config{Address: url})
	if err != nil {
		return nil, fmt.Errorf("prometheus at %s: %w", url, err)
	}
	store := promv1.NewAPI(client)
	return func(ctx context.Context, query string, at time.Time) ([]metricsrules.Sample, error) {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		value, _, _, err := store.Query(ctx, query, at, promv1.WithTimeout(queryTimeout), promv1.WithLookbackDelta(lookback))
		if err != nil {
			return nil, fmt.Errorf("prometheus at %s: %w", url, err)
		}
		return samplesOf(value)
	}, nil
}

func samplesOf(value model.Value) ([]metricsrules.Sample, error) {
	switch v := value.(type) {
	case model.Vector:
		samples := make([]metricsrules.Sample, len(v))
		for i, sample := range v {
			set := make(map[string]string, len(sample.Metric))
			for name, text := range sample.Metric {
				set[string(name)] = string(text)
			}
			samples[i] = metricsrules.Sample{Labels: set, Value: float64(sample.Value)}
		}
		return samples, nil
	case *model.Scalar:
		return []metricsrules.Sample{{Labels: map[string]string{}, Value: float64(v.Value)}}, nil
	default:
		return nil, fmt.Errorf("a query gave a %s, metrics are vectors or scalars", value.Type())
	}
}

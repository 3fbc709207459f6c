// Package remote asks a Prometheus over its HTTP API what metrics.Store answers in
// the process: whoever reads a run need not know who scraped it.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/api"
	apiv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"go.yaml.in/yaml/v3"
)

// askAgain is the wait for a Prometheus that does not answer yet.
const askAgain = 500 * time.Millisecond

// Store is a Prometheus that somebody else runs. Its methods may be called
// concurrently; its errors name the query.
type Store struct {
	api       apiv1.API
	transport *http.Transport
	interval  time.Duration
}

// New is for the Prometheus at a URL, such as http://127.0.0.1:9090, of which only
// answers are wanted: its Interval is 0. Close what it returns.
func New(url string) (*Store, error) {
	transport := &http.Transport{}
	client, err := api.NewClient(api.Config{Address: url, RoundTripper: transport})
	if err != nil {
		return nil, fmt.Errorf("prometheus at %s: %w", url, err)
	}
	return &Store{api: apiv1.NewAPI(client), transport: transport}, nil
}

// Open waits until the Prometheus at a URL, such as http://127.0.0.1:9090, answers,
// and reads how often it scrapes. Close what it returns.
func Open(ctx context.Context, url string) (*Store, error) {
	s, err := New(url)
	if err != nil {
		return nil, err
	}
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		config, err := s.api.Config(ctx)
		if err == nil {
			if s.interval, err = scrapeInterval(config.YAML); err == nil {
				return s, nil
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			s.Close()
			return nil, fmt.Errorf("prometheus at %s does not tell its configuration: %w", url, errors.Join(err, ctx.Err()))
		}
	}
}

// scrapeInterval reads the time between two scrapes from a configuration as
// Prometheus tells it, with its defaults.
func scrapeInterval(text string) (time.Duration, error) {
	var config struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		} `yaml:"global"`
	}
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return 0, fmt.Errorf("its configuration: %w", err)
	}
	interval, err := model.ParseDuration(config.Global.ScrapeInterval)
	if err == nil && interval <= 0 {
		err = errors.New("it is 0")
	}
	if err != nil {
		return 0, fmt.Errorf("its configuration: global.scrape_interval: %w", err)
	}
	return time.Duration(interval), nil
}

// Close gives its connections back.
func (s *Store) Close() { s.transport.CloseIdleConnections() }

// Interval is the time between two scrapes of a target; 0 when it was not read.
func (s *Store) Interval() time.Duration { return s.interval }

// Query evaluates an expression at one time; a scalar comes as one sample without
// labels.
func (s *Store) Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	value, _, _, err := s.api.Query(ctx, expr, at)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	switch v := value.(type) {
	case model.Vector:
		out := make(promql.Vector, 0, len(v))
		for _, sample := range v {
			out = append(out, promql.Sample{T: int64(sample.Timestamp), F: float64(sample.Value), Metric: labelsOf(sample.Metric)})
		}
		return out, nil
	case *model.Scalar:
		return promql.Vector{{T: int64(v.Timestamp), F: float64(v.Value)}}, nil
	}
	return nil, fmt.Errorf("query %q gives a %s; ask for samples at one time", expr, value.Type())
}

// QueryRange evaluates an expression at from, from+step and so on until to, with
// both ends included.
func (s *Store) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	value, _, _, err := s.api.QueryRange(ctx, expr, apiv1.Range{Start: from, End: to, Step: step})
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	return matrixOf(expr, value)
}

// Samples are the stored samples of a selector in the time of the given length
// before at, as they were scraped.
func (s *Store) Samples(ctx context.Context, selector string, length time.Duration, at time.Time) (promql.Matrix, error) {
	expr := fmt.Sprintf("%s[%dms]", selector, length.Milliseconds())
	value, _, _, err := s.api.Query(ctx, expr, at)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	return matrixOf(expr, value)
}

func matrixOf(expr string, value model.Value) (promql.Matrix, error) {
	matrix, ok := value.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("query %q gives a %s; ask for series", expr, value.Type())
	}
	out := make(promql.Matrix, 0, len(matrix))
	for _, stream := range matrix {
		one := promql.Series{Metric: labelsOf(stream.Metric), Floats: make([]promql.FPoint, 0, len(stream.Values))}
		for _, p := range stream.Values {
			one.Floats = append(one.Floats, promql.FPoint{T: int64(p.Timestamp), F: float64(p.Value)})
		}
		out = append(out, one)
	}
	return out, nil
}

func labelsOf(metric model.Metric) labels.Labels {
	set := make(map[string]string, len(metric))
	for name, value := range metric {
		set[string(name)] = string(value)
	}
	return labels.FromMap(set)
}

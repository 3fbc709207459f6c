package adapter_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"go.uber.org/goleak"
	kubelabels "k8s.io/apimachinery/pkg/labels"

	"spillway.dev/lab/autoscaler/adapter"
	"spillway.dev/lab/metrics/timelapse"
	"spillway.dev/platform/metricsrules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const rules = `
externalRules:
  - seriesQuery: pressure
    resources: {namespaced: false}
    name: {as: pressure_mean}
    metricsQuery: avg_over_time(<<.Series>>{<<.LabelMatchers>>}[5m] offset 1m)
resourceRules:
  cpu:
    containerQuery: sum by (<<.GroupBy>>) (rate(cpu_seconds_total{<<.LabelMatchers>>}[1m]))
    resources: &ofPods {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
    containerLabel: container
  memory:
    containerQuery: sum by (<<.GroupBy>>) (memory_bytes{<<.LabelMatchers>>})
    resources: *ofPods
    containerLabel: container
  window: 1m
`

// store answers queries by their text, and keeps the last.
type store struct {
	answers map[string]promql.Vector
	last    string
}

func (s *store) query(_ context.Context, query string, _ time.Time) (promql.Vector, error) {
	s.last = query
	return s.answers[query], nil
}

func sample(value float64, pairs ...string) promql.Vector {
	return promql.Vector{{F: value, Metric: labels.FromStrings(pairs...)}}
}

func build(text string, s *store, lapse timelapse.Lapse) (*metricsrules.Adapter, error) {
	c, err := metricsrules.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	return adapter.New(c, s.query, lapse)
}

func TestTimelapse(t *testing.T) {
	s := &store{answers: map[string]promql.Vector{
		"pressure":                               sample(1, "__name__", "pressure"),
		"avg_over_time(pressure[30s] offset 6s)": sample(0.5, "service", "order"),
		`sum by (pod, container) (rate(cpu_seconds_total{namespace="spillway",pod="a"}[6s]))`: sample(1, "pod", "a"),
		`sum by (pod, container) (memory_bytes{namespace="spillway",pod="a"})`:                sample(1, "pod", "a"),
	}}
	a, err := build(rules, s, timelapse.Lapse{By: 10})
	if err != nil {
		t.Fatal(err)
	}
	values, err := a.ExternalMetrics(t.Context(), "spillway", "pressure_mean", kubelabels.Everything())
	if err != nil || len(values) != 1 || values[0].MetricLabels["service"] != "order" || values[0].Value.MilliValue() != 500 {
		t.Errorf("got %v, %v; asked %s", values, err, s.last)
	}
	pods, err := a.PodMetrics(t.Context(), "spillway", []string{"a"})
	if err != nil || len(pods) != 1 || pods[0].Window.Duration != 6*time.Second {
		t.Errorf("a window of a minute is %v: %v; asked %s", pods, err, s.last)
	}
	// No window gets shorter than the lapse allows, nor longer than it is written.
	for least, want := range map[time.Duration]time.Duration{20 * time.Second: 20 * time.Second, time.Hour: time.Minute} {
		s.answers[`sum by (pod, container) (rate(cpu_seconds_total{namespace="spillway",pod="a"}[20s]))`] = sample(1, "pod", "a")
		s.answers[`sum by (pod, container) (rate(cpu_seconds_total{namespace="spillway",pod="a"}[1m]))`] = sample(1, "pod", "a")
		a, err := build(rules, s, timelapse.Lapse{By: 10, Window: least})
		if err != nil {
			t.Fatal(err)
		}
		pods, err := a.PodMetrics(t.Context(), "spillway", []string{"a"})
		if err != nil || len(pods) != 1 || pods[0].Window.Duration != want {
			t.Errorf("with at least %v a window of a minute is %v: %v; asked %s", least, pods, err, s.last)
		}
	}
}

// Rules that are no PromQL are found before the store is asked.
func TestRefused(t *testing.T) {
	if _, err := build("rules:\n  - {seriesQuery: 'sum(up)', metricsQuery: x}\n", &store{}, timelapse.Lapse{By: 1}); err == nil || !strings.Contains(err.Error(), "rules[0]: seriesQuery: ") {
		t.Errorf("a seriesQuery that selects no series: error %v", err)
	}
	s := &store{answers: map[string]promql.Vector{"pressure": sample(1, "__name__", "pressure")}}
	a, err := build("externalRules:\n  - {seriesQuery: pressure, metricsQuery: 'sum(<<.Series>>'}\n", s, timelapse.Lapse{By: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = a.ExternalMetrics(t.Context(), "", "pressure", kubelabels.Everything()); err == nil || !strings.Contains(err.Error(), "sum(pressure") {
		t.Errorf("a template that makes no PromQL: error %v", err)
	}
}

// The checked-in configuration selects series in every rule.
func TestCheckedIn(t *testing.T) {
	text, err := os.ReadFile("../../../k8s/observability/prometheus-adapter/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := build(string(text), &store{}, timelapse.Lapse{By: 1}); err != nil {
		t.Fatal(err)
	}
}

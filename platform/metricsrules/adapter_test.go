package metricsrules_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kubelabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"spillway.dev/platform/metricsrules"
)

const rules = `
rules:
  # Counters as rates, by the labels that Kubernetes' service discovery gives.
  - seriesQuery: '{__name__=~"^http_.+_total$",kube_namespace!=""}'
    seriesFilters:
      - isNot: ^http_errors
      - is: total$
    resources:
      template: kube_<<.Resource>>
    name: {matches: "^(.*)_total$", as: "${1}_per_second"}
    metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)
  - seriesQuery: queue_length{namespace!=""}
    resources:
      overrides:
        namespace: {resource: namespaces}
        pod: {resource: pods}
        workload: {group: apps, resource: deployment}
    metricsQuery: max by (<<.GroupBy>>) (<<.Series>>{<<.LabelMatchers>>, by!="<<index .LabelValuesByName "namespace">>"})
externalRules:
  - seriesQuery: '{__name__=~"^backlog_.+"}'
    resources: {overrides: {ns: {resource: namespace}}}
    name: {matches: ^backlog_(.+)$}
    metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>})
  - seriesQuery: pressure
    resources: {namespaced: false}
    name: {as: pressure_mean}
    metricsQuery: avg_over_time(<<.Series>>{<<.LabelMatchers>>}[5m] offset 1m)
resourceRules:
  cpu:
    containerQuery: sum by (<<.GroupBy>>) (rate(cpu_seconds_total{<<.LabelMatchers>>}[1m]))
    resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
    containerLabel: container
  memory:
    containerQuery: sum by (<<.GroupBy>>) (memory_bytes{<<.LabelMatchers>>})
    resources: {template: "<<.Resource>>"}
    containerLabel: container
  window: 1m
`

// store answers queries by their text, and keeps them.
type store struct {
	answers map[string][]metricsrules.Sample
	err     error

	mu    sync.Mutex
	asked []string
}

func (s *store) query(_ context.Context, query string, at time.Time) ([]metricsrules.Sample, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, query)
	return s.answers[query], s.err
}

// last is the last query but those for series.
func (s *store) last() string {
	if len(s.asked) == 0 {
		return ""
	}
	return s.asked[len(s.asked)-1]
}

func vector(samples ...metricsrules.Sample) []metricsrules.Sample { return samples }

func sample(value float64, pairs ...string) metricsrules.Sample {
	set := map[string]string{}
	for pair := range slices.Chunk(pairs, 2) {
		set[pair[0]] = pair[1]
	}
	return metricsrules.Sample{Value: value, Labels: set}
}

func newAdapter(t *testing.T, s *store) *metricsrules.Adapter {
	t.Helper()
	c, err := metricsrules.Parse([]byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	a, err := metricsrules.New(c, metricsrules.Mapper(), s.query, metricsrules.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// known is what a store has of every rule's series.
func known() map[string][]metricsrules.Sample {
	return map[string][]metricsrules.Sample{
		`{__name__=~"^http_.+_total$",kube_namespace!=""}`: vector(
			sample(1, "__name__", "http_errors_total", "kube_namespace", "spillway", "kube_pod", "a"),
			sample(1, "__name__", "http_requests_total", "kube_namespace", "spillway", "kube_pod", "a"),
			sample(1, "__name__", "http_hits_total", "kube_namespace", "spillway", "kube_service", "front"),
		),
		`queue_length{namespace!=""}`: vector(sample(1, "__name__", "queue_length", "namespace", "spillway", "pod", "a", "workload", "w")),
		`{__name__=~"^backlog_.+"}`:   vector(sample(1, "__name__", "backlog_mail", "ns", "spillway")),
		`pressure`:                    vector(sample(1, "__name__", "pressure", "service", "order")),
	}
}

var (
	podKind        = schema.GroupKind{Kind: "Pod"}
	serviceKind    = schema.GroupKind{Kind: "Service"}
	deploymentKind = schema.GroupKind{Group: "apps", Kind: "Deployment"}
)

func TestObjectQueries(t *testing.T) {
	for _, c := range []struct {
		kind             schema.GroupKind
		metric, selector string
		names            []string
		want             string
	}{
		{podKind, "http_requests_per_second", "", []string{"a", "b"},
			`sum(rate(http_requests_total{kube_namespace="spillway",kube_pod=~"a|b"}[2m])) by (kube_pod)`},
		{podKind, "http_requests_per_second", "verb=GET,code!=500", []string{"a"},
			`sum(rate(http_requests_total{code!="500",verb="GET",kube_namespace="spillway",kube_pod="a"}[2m])) by (kube_pod)`},
		{podKind, "http_requests_per_second", "verb in (GET,PUT),code notin (500),zone,!old", []string{"a"},
			`sum(rate(http_requests_total{code!~"500",old="",verb=~"GET|PUT",zone!="",kube_namespace="spillway",kube_pod="a"}[2m])) by (kube_pod)`},
		{serviceKind, "http_hits_per_second", "", []string{"front"},
			`sum(rate(http_hits_total{kube_namespace="spillway",kube_service="front"}[2m])) by (kube_service)`},
		{podKind, "queue_length", "", []string{"a"},
			`max by (pod) (queue_length{namespace="spillway",pod="a", by!="spillway"})`},
		{deploymentKind, "queue_length", "", []string{"w"},
			`max by (workload) (queue_length{namespace="spillway",workload="w", by!="spillway"})`},
	} {
		s := &store{answers: known()}
		selector, err := kubelabels.Parse(c.selector)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newAdapter(t, s).ObjectMetrics(t.Context(), c.kind, "spillway", c.names, c.metric, selector)
		if !apierrors.IsNotFound(err) {
			t.Errorf("%s %s without values: error %v, want NotFound", c.kind, c.metric, err)
		}
		if s.last() != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.kind, c.metric, s.last(), c.want)
		}
	}
}

func TestObjectMetrics(t *testing.T) {
	s := &store{answers: known()}
	a := newAdapter(t, s)
	s.answers[`max by (pod) (queue_length{namespace="spillway",pod=~"a|b|c|d|e|f", by!="spillway"})`] = vector(
		sample(1.5, "pod", "a"), sample(math.NaN(), "pod", "b"), sample(math.Inf(1), "pod", "c"), sample(-2, "pod", "d"), sample(1e30, "pod", "e"), sample(9, "pod", "other"))
	got, err := a.ObjectMetrics(t.Context(), podKind, "spillway", []string{"a", "b", "c", "d", "e", "f"}, "queue_length", kubelabels.Everything())
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, m := range got {
		text = append(text, fmt.Sprintf("%s %s %d", m.DescribedObject.Kind, m.DescribedObject.Name, m.Value.MilliValue()))
	}
	want := fmt.Sprintf("[Pod a 1500 Pod b 0 Pod d -2000 Pod e %d]", int64(math.MaxInt64))
	if fmt.Sprint(text) != want {
		t.Errorf("got %v, want %s", text, want)
	}
}

func TestObjectMetricsThatAreNotThere(t *testing.T) {
	for _, c := range []struct {
		kind   schema.GroupKind
		metric string
		names  []string
	}{
		{podKind, "http_errors_per_second", []string{"a"}}, // filtered
		{podKind, "http_requests_total", []string{"a"}},    // the series, not the metric
		{podKind, "http_hits_per_second", []string{"a"}},   // of services only
		{serviceKind, "queue_length", []string{"a"}},       // a kind without a label
		{podKind, "queue_length", nil},                     // no pods
	} {
		_, err := newAdapter(t, &store{answers: known()}).ObjectMetrics(t.Context(), c.kind, "spillway", c.names, c.metric, kubelabels.Everything())
		if !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "could not find the metric "+c.metric) {
			t.Errorf("%s of %s: %v", c.metric, c.kind.Kind, err)
		}
	}
	_, err := newAdapter(t, &store{}).ObjectMetrics(t.Context(), schema.GroupKind{Kind: "Ingress"}, "spillway", []string{"a"}, "queue_length", kubelabels.Everything())
	if err == nil || !strings.Contains(err.Error(), "Ingress") {
		t.Errorf("a kind that the mesh has not: %v", err)
	}
}

// A metric that comes later is found, and one that has gone is not looked for
// again among the series.
func TestSeriesAreFoundWhenTheyCome(t *testing.T) {
	s := &store{answers: map[string][]metricsrules.Sample{}}
	a := newAdapter(t, s)
	ask := func() error {
		_, err := a.ExternalMetrics(t.Context(), "spillway", "pressure_mean", kubelabels.Everything())
		return err
	}
	if err := ask(); !apierrors.IsNotFound(err) {
		t.Fatalf("before it is there: %v", err)
	}
	s.answers = known()
	if err := ask(); err != nil {
		t.Fatalf("when it is there: %v", err)
	}
	s.answers, s.asked = nil, nil
	if err := ask(); err != nil || len(s.asked) != 1 {
		t.Errorf("when it has gone: error %v, asked %q", err, s.asked)
	}
}

func TestExternalMetrics(t *testing.T) {
	s := &store{answers: known()}
	a := newAdapter(t, s)
	selector, _ := kubelabels.Parse("service=order")
	mean := `avg_over_time(pressure{service="order"}[5m] offset 1m)`
	s.answers[mean] = vector(sample(0.7, "service", "order"), sample(math.NaN()), sample(math.Inf(1)))
	got, err := a.ExternalMetrics(t.Context(), "spillway", "pressure_mean", selector)
	if err != nil || s.last() != mean {
		t.Fatalf("asked %s: %v", s.last(), err)
	}
	if len(got) != 1 || got[0].Value.MilliValue() != 700 || got[0].MetricLabels["service"] != "order" || got[0].Timestamp.IsZero() {
		t.Errorf("got %+v", got)
	}
	if _, err := a.ExternalMetrics(t.Context(), "spillway", "mail", kubelabels.Everything()); err != nil {
		t.Error(err)
	}
	if want := `sum(backlog_mail{ns="spillway"})`; s.last() != want {
		t.Errorf("a metric of the namespace: asked %s, want %s", s.last(), want)
	}
	for _, unsupported := range []string{"age>5", "age<5"} {
		selector, err := kubelabels.Parse(unsupported)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.ExternalMetrics(t.Context(), "spillway", "mail", selector); err == nil {
			t.Errorf("a selector %s that PromQL cannot say is no error", selector)
		}
	}
}

func TestPodMetrics(t *testing.T) {
	cpu := `sum by (pod,container) (rate(cpu_seconds_total{namespace="spillway",pod=~"a|b|c|d"}[1m]))`
	memory := `sum by (pod,container) (memory_bytes{namespace="spillway",pod=~"a|b|c|d"})`
	s := &store{answers: map[string][]metricsrules.Sample{
		cpu: vector(
			sample(0.25, "pod", "a", "container", "service"), sample(0.05, "pod", "a", "container", "proxy"),
			sample(math.NaN(), "pod", "b", "container", "service"), sample(1, "pod", "c", "container", "service")),
		memory: vector(
			sample(1024, "pod", "a", "container", "service"), sample(2048, "pod", "b", "container", "service"),
			sample(4096, "pod", "d", "container", "service")),
	}}
	before := time.Now()
	got, err := newAdapter(t, s).PodMetrics(t.Context(), "spillway", []string{"a", "b", "c", "d"})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, m := range got {
		if m.Window.Duration != time.Minute || m.Timestamp.Time.Before(before) {
			t.Errorf("%s: window %v, at %v", m.Name, m.Window, m.Timestamp)
		}
		for _, c := range m.Containers {
			text = append(text, fmt.Sprintf("%s/%s %s %s", m.Name, c.Name, c.Usage.Cpu(), c.Usage.Memory()))
		}
	}
	// c has no memory and d no CPU: as upstream, they have no metrics.
	want := "[a/proxy 50m 0 a/service 250m 1Ki b/service 0 2Ki]"
	if fmt.Sprint(text) != want {
		t.Errorf("got %v, want %s", text, want)
	}
	if got, err := newAdapter(t, s).PodMetrics(t.Context(), "spillway", nil); err != nil || got != nil {
		t.Errorf("of no pods: %v, %v", got, err)
	}
}

func TestStoreAway(t *testing.T) {
	a := newAdapter(t, &store{err: errors.New("connection refused")})
	_, resources := a.PodMetrics(t.Context(), "spillway", []string{"a"})
	_, objects := a.ObjectMetrics(t.Context(), podKind, "spillway", []string{"a"}, "queue_length", kubelabels.Everything())
	_, externals := a.ExternalMetrics(t.Context(), "spillway", "pressure_mean", kubelabels.Everything())
	for name, err := range map[string]error{"resources": resources, "objects": objects, "externals": externals} {
		if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestList(t *testing.T) {
	s := &store{answers: known()}
	a := newAdapter(t, s)
	objects, externals, err := a.List(t.Context())
	want := "[{deployments.apps true queue_length} {namespaces false http_hits_per_second} {namespaces false http_requests_per_second} " +
		"{namespaces false queue_length} {pods true http_requests_per_second} {pods true queue_length} {services true http_hits_per_second}]"
	if got := fmt.Sprint(objects); err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	if got := fmt.Sprint(externals); got != "[mail pressure_mean]" {
		t.Errorf("external metrics are %s", got)
	}
	// What was found is told of when the store is away.
	s.err = errors.New("connection refused")
	again, more, err := a.List(t.Context())
	if err == nil || !slices.Equal(again, objects) || !slices.Equal(more, externals) {
		t.Errorf("without a store: %v, %v, %v", again, more, err)
	}
}

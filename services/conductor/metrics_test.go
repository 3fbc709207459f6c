package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	metadatafake "k8s.io/client-go/metadata/fake"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"spillway.dev/platform/metricsrules"
)

// store is a server of Prometheus' HTTP API with the given series, each a query and what it answers.
func store(t *testing.T, answers map[string][]metricsrules.Sample) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/query" || r.FormValue("lookback_delta") != "60s" && r.FormValue("lookback_delta") != "1m0s" {
			t.Errorf("asked %s with lookback %q", r.URL, r.FormValue("lookback_delta"))
		}
		type result struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		}
		results := []result{}
		for _, s := range answers[r.FormValue("query")] {
			results = append(results, result{s.Labels, [2]any{1.0, strconv.FormatFloat(s.Value, 'g', -1, 64)}})
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{
			"status": "success", "data": map[string]any{"resultType": "vector", "result": results},
		}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// provided answers from a store by the checked-in rules, for a namespace with the pods a and b of order, and c of bank.
func provided(t *testing.T, server *httptest.Server) (*metrics, *atomic.Int64) {
	t.Helper()
	text, err := os.ReadFile("../../k8s/observability/prometheus-adapter/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := metricsrules.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	query, err := prometheusAt(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	mapper := metricsrules.Mapper()
	adapter, err := metricsrules.New(rules, mapper, query, metricsrules.Plain{})
	if err != nil {
		t.Fatal(err)
	}
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var pods []runtime.Object
	for name, app := range map[string]string{"a": "order", "b": "order", "c": "bank"} {
		pods = append(pods, &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "spillway", Name: name, Labels: map[string]string{"app": app}},
		})
	}
	failed := new(atomic.Int64)
	return &metrics{
		rules: adapter, mapper: mapper, objects: metadatafake.NewSimpleMetadataClient(scheme, pods...),
		failed: func() { failed.Add(1) }, log: slog.New(slog.DiscardHandler),
	}, failed
}

func sample(value float64, pairs ...string) []metricsrules.Sample {
	set := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		set[pairs[i]] = pairs[i+1]
	}
	return []metricsrules.Sample{{Labels: set, Value: value}}
}

const (
	ofServices = `{__name__=~"spillway:service_.+:(rate|ratio|sum)"}`
	ofPods     = `{__name__=~"spillway_capacity_(queue_length|in_flight|utilization_ratio)",namespace!="",pod!=""}`
	pressure   = `sum by (service) (spillway:service_pressure:ratio{service="order"})`
	queues     = `sum by (pod) (spillway_capacity_queue_length{namespace="spillway",pod=~"a|b"})`
)

var (
	pods  = schema.GroupResource{Resource: "pods"}
	order = labels.SelectorFromSet(labels.Set{"service": "order"})
)

func TestMetrics(t *testing.T) {
	m, failed := provided(t, store(t, map[string][]metricsrules.Sample{
		ofServices: sample(1, "__name__", "spillway:service_pressure:ratio", "service", "order"),
		ofPods:     sample(1, "__name__", "spillway_capacity_queue_length", "namespace", "spillway", "pod", "a"),
		pressure:   sample(1.25, "service", "order"),
		queues:     append(sample(3, "pod", "a"), sample(4, "pod", "b")...),
		strings.Replace(queues, `=~"a|b"`, `="a"`, 1): sample(3, "pod", "a"),
	}))
	external, err := m.GetExternalMetric(t.Context(), "spillway", order, provider.ExternalMetricInfo{Metric: "service_pressure"})
	if err != nil || len(external.Items) != 1 || external.Items[0].Value.MilliValue() != 1250 || external.Items[0].MetricLabels["service"] != "order" {
		t.Errorf("pressure is %v, %v", external, err)
	}
	info := provider.CustomMetricInfo{GroupResource: pods, Namespaced: true, Metric: "capacity_queue_length"}
	list, err := m.GetMetricBySelector(t.Context(), "spillway", labels.SelectorFromSet(labels.Set{"app": "order"}), info, labels.Everything())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range list.Items {
		got = append(got, fmt.Sprintf("%s %s/%s %s", v.DescribedObject.Kind, v.DescribedObject.Namespace, v.DescribedObject.Name, v.Value.String()))
	}
	if want := "Pod spillway/a 3, Pod spillway/b 4"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	one, err := m.GetMetricByName(t.Context(), types.NamespacedName{Namespace: "spillway", Name: "a"}, info, labels.Everything())
	if err != nil || one.Value.Value() != 3 || one.Metric.Name != "capacity_queue_length" {
		t.Errorf("of one pod: %v, %v", one, err)
	}
	if got := fmt.Sprint(m.ListAllMetrics()); !strings.Contains(got, "pods/capacity_queue_length(namespaced)") {
		t.Errorf("custom metrics are %s", got)
	}
	if got := fmt.Sprint(m.ListAllExternalMetrics()); got != "[{service_pressure} {service_pressure_smoothed}]" {
		t.Errorf("external metrics are %s", got)
	}
	for _, unknown := range []provider.CustomMetricInfo{
		{GroupResource: pods, Namespaced: true, Metric: "nothing"},
		{GroupResource: schema.GroupResource{Resource: "ingresses"}, Namespaced: true, Metric: "capacity_queue_length"},
	} {
		if _, err := m.GetMetricByName(t.Context(), types.NamespacedName{Namespace: "spillway", Name: "a"}, unknown, labels.Everything()); !apierrors.IsNotFound(err) {
			t.Errorf("%v: error %v", unknown, err)
		}
	}
	if n := failed.Load(); n != 0 {
		t.Errorf("%d answers count as failed", n)
	}
}

// While Prometheus is away every answer is an error, also of what was answered before; discovery goes on.
func TestPrometheusAway(t *testing.T) {
	server := store(t, map[string][]metricsrules.Sample{
		ofServices: sample(1, "__name__", "spillway:service_pressure:ratio", "service", "order"), pressure: sample(1.25, "service", "order"),
	})
	m, failed := provided(t, server)
	ask := func() error {
		_, err := m.GetExternalMetric(t.Context(), "spillway", order, provider.ExternalMetricInfo{Metric: "service_pressure"})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if err := ask(); !apierrors.IsInternalError(err) || failed.Load() != 1 {
		t.Errorf("error %v, %d counted", err, failed.Load())
	}
	if got := fmt.Sprint(m.ListAllExternalMetrics()); !strings.Contains(got, "service_pressure") {
		t.Errorf("external metrics are %s", got)
	}
}

package why

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// told is a store that knows some answers: by the expression, those of its
// series.
type told map[string]promql.Vector

func (t told) Query(_ context.Context, expr string, _ time.Time) (promql.Vector, error) {
	if expr == t.broken() {
		return nil, errors.New("the store is away")
	}
	return t[expr], nil
}

// broken is the expression that cannot be asked: the one with an empty answer.
func (t told) broken() string {
	for expr, v := range t {
		if v == nil {
			return expr
		}
	}
	return ""
}

func sample(v float64, pairs ...string) promql.Sample {
	return promql.Sample{F: v, Metric: labels.FromStrings(pairs...)}
}

// rush is a mesh in which order is bound by the bank.
func rush() told {
	return told{
		"spillway:service_edge_demand_calls:rate": {sample(12, "service", "order"), sample(96, "service", "gateway")},
		"spillway:route_demand_calls:rate":        {sample(16, "route", "Checkout"), sample(60.5, "route", "ListShows")},
		"spillway:route_forecast_calls:rate":      {sample(20, "route", "Checkout"), sample(75.6, "route", "ListShows")},
		"spillway:edge_growth:ratio":              {sample(1.25)},

		`spillway:call_demand_calls:rate{service="order"}`:                         {sample(20, "route", "Checkout", "method", "Checkout"), sample(0, "route", "GetOrder", "method", "GetOrder")},
		`last_over_time(spillway:call_visits_measured:ratio{callee="order"}[30m])`: {sample(1, "caller", "gateway", "caller_method", "Checkout", "method", "Checkout")},
		`spillway:call_visits:ratio{callee="order"} > 0`:                           {sample(1, "caller", "gateway", "caller_method", "Checkout", "method", "Checkout"), sample(1, "caller", "gateway", "caller_method", "GetOrder", "method", "GetOrder")},
		"spillway:service_limit_calls:rate":                                        {sample(12, "service", "bank")},
		"spillway:route_bound:ratio < 1":                                           {sample(0.6, "route", "Checkout", "dependency", "bank")},
		`count(spillway:service_edge_demand_calls:rate{service="order"} < on () sum(spillway:call_demand_calls:rate{service="order"}) * 0.999999)`: {sample(1)},
		`max(spillway:pod_capacity_calls:rate{service="order"} > 0)`:                                                                               {sample(12.5)},
		`spillway:service_required_replicas:sum{service="order"}`:                                                                                  {sample(12 / (0.7 * 12.5))},
		`spillway:service_caller_replicas:sum{service="order"}`:                                                                                    {sample(3)},
		`spillway:service_offered_calls:rate{service="order"}`:                                                                                     {sample(17)},
		`spillway:service_pressure:ratio{service="order"}`:                                                                                         {sample(1.36)},
		`spillway:service_replicas_ready{service="order"}`:                                                                                         {sample(1)},
		`spillway:service_replicas_desired{service="order"}`:                                                                                       {sample(2)},
		"spillway:call_undeclared:increase":                                                                                                        {sample(30, "caller", "order", "callee", "bank", "method", "Charge"), sample(30, "caller", "catalog", "callee", "bank", "method", "Charge")},
	}
}

func scaler() *autoscalingv2.HorizontalPodAutoscaler {
	least, percent, one, seven := int32(2), int32(70), resource.MustParse("1"), resource.MustParse("685m")
	is := int32(99)
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	hpa.Spec.MinReplicas, hpa.Spec.MaxReplicas = &least, 8
	hpa.Spec.Metrics = []autoscalingv2.MetricSpec{
		{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}},
		{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "service_required_replicas"},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &one}}},
		{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: autoscalingv2.MetricIdentifier{Name: "away"},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &one}}},
	}
	hpa.Status.CurrentReplicas, hpa.Status.DesiredReplicas = 2, 3
	hpa.Status.CurrentMetrics = []autoscalingv2.MetricStatus{
		{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: &is}}},
		{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{Current: autoscalingv2.MetricValueStatus{AverageValue: &seven}}},
	}
	hpa.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionTrue, Message: "it was able to compute"}}
	return hpa
}

const explained = `order needs 2 replicas for what people ask of the edge; its autoscaler wants 3 replicas; 1 of 2 are ready

What people ask of the edge, in calls per second, before anything is refused
  ROUTE       NOW    MADE READY FOR
  ListShows   60.5   75.6
  Checkout    16     20
  it grows: 1.25 times that, by the newest scrapes or by a line to when a replica that is asked for now would serve

What comes of it at order
  ROUTE      METHOD     VISITS   CALLS PER SECOND
  Checkout   Checkout   1        20
  gateway.Checkout makes 1 call of order.Checkout (measured)
  gateway.GetOrder makes 1 call of order.GetOrder (declared)
  bounded: bank cannot scale and takes 12 calls per second, 60 % of what Checkout would bring it

What that needs
  made ready for            12     calls per second
  one replica answers       12.5   calls per second
  to be busy at             70     %
  replicas                  1.37   of made ready for ÷ (one replica × busy)
  its callers' replicas     3      what scaling-workload goes by

What order shows of itself
  offered                     17     calls per second
  its ready replicas answer   ?      nobody tells
  pressure                    1.36
  slots busy                  ?      nobody tells

What its autoscaler makes of it, from 2 to 8 replicas
  METRIC                      IS               TARGET        ASKS FOR
  cpu                         99 %             70 %          3
  service_required_replicas   0.69 a replica   1 a replica   2
  away                        ?                1 a replica   ?
  it wants the largest, and of what it wanted in the last minutes it keeps the most: 3 replicas
  ScalingActive true: it was able to compute

order → bank.Charge is called, and the declared graph has no such call: what it asks for is not in the demand. k8s/base/callgraph.yaml; docs/runbooks/CallGraphDiffers.md
`

// blanks are what a table pads with; its widths are no part of what is told.
var blanks = regexp.MustCompile(` {2,}`)

func TestText(t *testing.T) {
	answer, err := Ask(t.Context(), rush(), "order", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := answer.Text(&text, scaler()); err != nil {
		t.Fatal(err)
	}
	if got, want := blanks.ReplaceAllString(text.String(), "  "), blanks.ReplaceAllString(explained, "  "); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAServiceThatNothingScales(t *testing.T) {
	answer, err := Ask(t.Context(), rush(), "gateway", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := answer.Text(&text, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"no autoscaler would change that", "none tells", "\n  nothing\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
}

func TestErrorsNameTheRemedy(t *testing.T) {
	away := rush()
	away["spillway:edge_growth:ratio"] = nil
	for _, test := range []struct {
		name, service string
		from          told
		want          string
	}{
		{"no rules", "order", told{}, "coordination.yaml"},
		{"an unknown service", "ordr", rush(), `there is no service "ordr"; there are gateway, order`},
		{"a store that is away", "order", away, "the store is away"},
	} {
		if _, err := Ask(t.Context(), test.from, test.service, time.Now()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

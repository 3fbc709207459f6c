//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"spillway.dev/lab/coordination"
	"spillway.dev/lab/why"
)

// explainEach holds what `spillway explain` tells of a service and its callers
// against each other, and what one replica answers against the replica itself.
func explainEach(t *testing.T, m *mesh) {
	report := m.offer(20, 30*time.Second, 7)
	told := map[string]*why.Answer{}
	until(t, "explain's terms multiply out", func() error {
		for _, name := range []string{"gateway", "catalog", "order", "inventory"} {
			told[name] = &why.Answer{}
			if code := m.cli(told[name], "explain", name, "--json"); code != 0 {
				t.Fatalf("explain %s: exit code %d", name, code)
			}
		}
		for _, name := range []string{"catalog", "order", "inventory"} {
			if err := callsOfCallers(told, name); err != nil {
				return err
			}
		}
		return replicasOf(m, told["inventory"])
	})
	a := told["inventory"]
	t.Logf("routes %+v, visits %+v: %.1f calls a second over %.1f a replica are %.2f replicas", a.Routes, a.Visits, a.Demand, *a.One, *a.Required)
	if code := m.cli(nil, "explain", "inventory"); code != 0 {
		t.Errorf("explain inventory, as text: exit code %d", code)
	}
	noErrors(t, report())
}

// same allows for the rounding of figures that were added up in another order.
func same(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(math.Abs(a), math.Abs(b)) }

// callsOfCallers checks, method by method, that the calls which come of the edge
// at a service are its callers' times their visits.
func callsOfCallers(told map[string]*why.Answer, service string) error {
	reached := func(service, method string) (sum float64) {
		for _, c := range told[service].Calls {
			if c.Method == method {
				sum += c.Demand
			}
		}
		return sum
	}
	if len(told[service].Calls) == 0 {
		return fmt.Errorf("nothing comes of the edge at %s", service)
	}
	for _, c := range told[service].Calls {
		want := 0.0
		for _, v := range told[service].Visits {
			if v.Method != c.Method {
				continue
			}
			if told[v.Caller] == nil {
				return fmt.Errorf("%s.%s is called by %s, which is not asked", service, v.Method, v.Caller)
			}
			want += v.Visits * reached(v.Caller, v.CallerMethod)
		}
		if got := reached(service, c.Method); !same(got, want) {
			return fmt.Errorf("%s.%s gets %g calls a second, and its callers make %g", service, c.Method, got, want)
		}
	}
	return nil
}

// replicasOf checks that routes, visits and what one replica answers make the
// replicas that a service, which nothing bounds, requires.
func replicasOf(m *mesh, a *why.Answer) error {
	ahead, sum := map[string]float64{}, 0.0
	for _, r := range a.Routes {
		ahead[r.Name] = r.Ahead
	}
	for _, c := range a.Calls {
		if c.Visits <= 0 || !same(c.Visits*ahead[c.Route], c.Demand) {
			return fmt.Errorf("%s brings %s.%s %g calls a second: %g times %g", c.Route, a.Service, c.Method, c.Demand, ahead[c.Route], c.Visits)
		}
		sum += c.Visits * ahead[c.Route]
	}
	if ahead["GetSeatMap"] <= 0 || ahead["Checkout"] <= 0 || !same(sum, a.Demand) {
		return fmt.Errorf("of routes %v %g calls a second come, and %g are told", ahead, sum, a.Demand)
	}
	if !slices.ContainsFunc(a.Visits, func(v why.Visit) bool { return v.Method == "GetAvailability" && v.Measured }) {
		return fmt.Errorf("no call of %s.GetAvailability was counted: %+v", a.Service, a.Visits)
	}
	replicas := m.workload(a.Service).GetReplicas()
	one := 0.0
	for _, r := range replicas {
		families, err := scrape(m.t.Context(), r.GetAdminAddress())
		if err != nil {
			return err
		}
		one = max(one, gauge(families, "spillway_capacity_slots")/gauge(families, "spillway_capacity_service_seconds_mean"))
	}
	if a.One == nil || a.Required == nil || a.Own.Ready == nil {
		return fmt.Errorf("one replica, the required ones, or the ready ones are not told: %+v", a)
	}
	if !same(*a.One, one) || !same(*a.Required, sum/(coordination.Utilization*one)) || *a.Own.Ready != float64(len(replicas)) {
		return fmt.Errorf("%g replicas are required and %g ready, each for %g calls a second; %g calls come, %d replicas are there, each for %g",
			*a.Required, *a.Own.Ready, *a.One, sum, len(replicas), one)
	}
	return nil
}

// gauge sums a gauge over its series.
func gauge(families map[string]*dto.MetricFamily, name string) (sum float64) {
	for _, metric := range families[name].GetMetric() {
		sum += metric.GetGauge().GetValue()
	}
	return sum
}

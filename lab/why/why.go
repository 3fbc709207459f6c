// Package why tells why a service wants the replicas that it wants now, each term
// with its value: from the series of the rules that lab/coordination makes, and
// from the autoscaler itself.
package why

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// Querier answers PromQL at one time.
type Querier interface {
	Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
}

// Route is what people ask of one route of the edge, in calls per second.
type Route struct {
	Name  string  `json:"name"`
	Now   float64 `json:"now"`
	Ahead float64 `json:"ahead"`
}

// Call is what comes of a route at a method of the service.
type Call struct {
	Route  string `json:"route"`
	Method string `json:"method"`
	// Visits is calls of the method per call of the route.
	Visits float64 `json:"visits"`
	// Demand is in calls per second, before any bound.
	Demand float64 `json:"demand"`
}

// Visit is how often one of the service's callers calls it.
type Visit struct {
	Caller       string  `json:"caller"`
	CallerMethod string  `json:"caller_method"`
	Method       string  `json:"method"`
	Visits       float64 `json:"visits"`
	// Measured tells that it was counted; otherwise it is declared.
	Measured bool `json:"measured"`
}

// Bound is what a service that cannot scale leaves of a route.
type Bound struct {
	Route      string  `json:"route"`
	Dependency string  `json:"dependency"`
	Share      float64 `json:"share"`
	// Limit is what the dependency can take, in calls per second.
	Limit float64 `json:"limit"`
}

// Own is what the service shows of itself; a figure that nobody told is nil.
type Own struct {
	Offered     *float64 `json:"offered,omitempty"`     // calls per second
	Capacity    *float64 `json:"capacity,omitempty"`    // of the ready replicas, calls per second
	Pressure    *float64 `json:"pressure,omitempty"`    // offered ÷ capacity
	Utilization *float64 `json:"utilization,omitempty"` // busy slots ÷ slots
	Ready       *float64 `json:"ready,omitempty"`       // replicas
	Desired     *float64 `json:"desired,omitempty"`     // replicas
}

// Answer is every term of what a service wants.
type Answer struct {
	Service string  `json:"service"`
	Routes  []Route `json:"routes"`
	// Growth is by how much more the edge is asked for by now, or soon will be.
	Growth *float64 `json:"growth,omitempty"`
	Calls  []Call   `json:"calls"`
	Visits []Visit  `json:"visits"`
	Bounds []Bound  `json:"bounds"`
	// Demand is what the service is made ready for, in calls per second.
	Demand float64 `json:"demand"`
	// One is what one replica can answer, in calls per second; nil while none
	// tells.
	One *float64 `json:"one,omitempty"`
	// Required is the replicas for it, not rounded up; nil for a service that
	// cannot scale.
	Required *float64 `json:"required,omitempty"`
	// Callers is the replicas of its callers.
	Callers *float64 `json:"callers,omitempty"`
	Own     Own      `json:"own"`
	// Undeclared and Unseen are calls of or by the service in which the declared
	// graph and what is seen differ.
	Undeclared []string `json:"undeclared"`
	Unseen     []string `json:"unseen"`
}

// Ask puts the answer for a service together from the series of now. A service
// that nobody tells of is an error that names those that there are.
func Ask(ctx context.Context, from Querier, service string, now time.Time) (*Answer, error) {
	a := asker{ctx: ctx, from: from, now: now}
	demand := a.all("spillway:service_edge_demand_calls:rate")
	if a.err != nil {
		return nil, a.err
	}
	if len(demand) == 0 {
		return nil, fmt.Errorf("the metrics store has no spillway:service_edge_demand_calls:rate: its rules are made within half a minute of a start, by k8s/observability/prometheus/rules/coordination.yaml; a Prometheus that was set up by an older release lacks that file")
	}
	answer := &Answer{Service: service}
	var known []string
	found := false
	for _, s := range demand {
		name := s.Metric.Get("service")
		known = append(known, name)
		if name == service {
			answer.Demand, found = s.F, true
		}
	}
	if !found {
		slices.Sort(known)
		return nil, fmt.Errorf("there is no service %q; there are %s", service, joined(known))
	}
	here := func(metric string) string { return fmt.Sprintf(`%s{service=%q}`, metric, service) }
	answer.Routes, answer.Growth = a.routes(), a.one("spillway:edge_growth:ratio")
	answer.Calls = a.calls(here("spillway:call_demand_calls:rate"), answer.Routes)
	answer.Visits = a.visits(service)
	answer.Bounds = a.bounds(answer.Calls, service)
	answer.One = a.one(fmt.Sprintf(`max(spillway:pod_capacity_calls:rate{service=%q} > 0)`, service))
	answer.Required = a.one(here("spillway:service_required_replicas:sum"))
	answer.Callers = a.one(here("spillway:service_caller_replicas:sum"))
	answer.Own = Own{
		Offered:     a.one(here("spillway:service_offered_calls:rate")),
		Capacity:    a.one(here("spillway:service_capacity_calls:rate")),
		Pressure:    a.one(here("spillway:service_pressure:ratio")),
		Utilization: a.one(here("spillway:service_utilization:ratio")),
		Ready:       a.one(here("spillway:service_replicas_ready")),
		Desired:     a.one(here("spillway:service_replicas_desired")),
	}
	answer.Undeclared = a.differences("spillway:call_undeclared:increase", service)
	answer.Unseen = a.differences("spillway:call_unseen:increase", service)
	if a.err != nil {
		return nil, a.err
	}
	return answer, nil
}

// asker asks one question after the other and keeps the first error.
type asker struct {
	ctx  context.Context
	from Querier
	now  time.Time
	err  error
}

func (a *asker) all(expr string) promql.Vector {
	if a.err != nil {
		return nil
	}
	vector, err := a.from.Query(a.ctx, expr, a.now)
	a.err = err
	return vector
}

// one is the value of an expression with at most one sample; nil without any.
func (a *asker) one(expr string) *float64 {
	if vector := a.all(expr); len(vector) > 0 {
		return &vector[0].F
	}
	return nil
}

func (a *asker) routes() []Route {
	ahead := map[string]float64{}
	for _, s := range a.all("spillway:route_forecast_calls:rate") {
		ahead[s.Metric.Get("route")] = s.F
	}
	routes := []Route{}
	for _, s := range a.all("spillway:route_demand_calls:rate") {
		name := s.Metric.Get("route")
		routes = append(routes, Route{name, s.F, ahead[name]})
	}
	slices.SortFunc(routes, func(x, y Route) int { return cmp.Or(cmp.Compare(y.Now, x.Now), cmp.Compare(x.Name, y.Name)) })
	return routes
}

func (a *asker) calls(expr string, routes []Route) []Call {
	calls := []Call{}
	for _, s := range a.all(expr) {
		c := Call{Route: s.Metric.Get("route"), Method: s.Metric.Get("method"), Demand: s.F}
		for _, r := range routes {
			if r.Name == c.Route && r.Ahead > 0 {
				c.Visits = c.Demand / r.Ahead
			}
		}
		if c.Demand > 0 {
			calls = append(calls, c)
		}
	}
	slices.SortFunc(calls, func(x, y Call) int {
		return cmp.Or(cmp.Compare(y.Demand, x.Demand), cmp.Compare(x.Route, y.Route), cmp.Compare(x.Method, y.Method))
	})
	return calls
}

func (a *asker) visits(service string) []Visit {
	key := func(m labels.Labels) [3]string {
		return [3]string{m.Get("caller"), m.Get("caller_method"), m.Get("method")}
	}
	measured := map[[3]string]float64{}
	for _, s := range a.all(fmt.Sprintf("last_over_time(spillway:call_visits_measured:ratio{callee=%q}[%s])", service, kept)) {
		measured[key(s.Metric)] = s.F
	}
	visits := []Visit{}
	for _, s := range a.all(fmt.Sprintf("spillway:call_visits:ratio{callee=%q} > 0", service)) {
		k := key(s.Metric)
		last, counted := measured[k]
		visits = append(visits, Visit{k[0], k[1], k[2], s.F, counted && last == s.F})
	}
	slices.SortFunc(visits, func(x, y Visit) int {
		return cmp.Or(cmp.Compare(x.Caller, y.Caller), cmp.Compare(x.CallerMethod, y.CallerMethod), cmp.Compare(x.Method, y.Method))
	})
	return visits
}

// kept is how long ago a count may be that still holds, without time-lapse. In
// one the rules keep it shorter; what they no longer go by has another value.
const kept = "30m"

// bounds are of the service's own routes, where they really bind it.
func (a *asker) bounds(calls []Call, service string) []Bound {
	limits := map[string]float64{}
	for _, s := range a.all("spillway:service_limit_calls:rate") {
		limits[s.Metric.Get("service")] = s.F
	}
	above := a.all(fmt.Sprintf("count(spillway:service_edge_demand_calls:rate{service=%[1]q} < on () sum(spillway:call_demand_calls:rate{service=%[1]q}) * 0.999999)", service))
	bounds := []Bound{}
	if len(above) == 0 {
		return bounds
	}
	for _, s := range a.all("spillway:route_bound:ratio < 1") {
		b := Bound{Route: s.Metric.Get("route"), Dependency: s.Metric.Get("dependency"), Share: s.F}
		b.Limit = limits[b.Dependency]
		if slices.ContainsFunc(calls, func(c Call) bool { return c.Route == b.Route }) {
			bounds = append(bounds, b)
		}
	}
	slices.SortFunc(bounds, func(x, y Bound) int {
		return cmp.Or(cmp.Compare(x.Route, y.Route), cmp.Compare(x.Dependency, y.Dependency))
	})
	return bounds
}

func (a *asker) differences(metric, service string) []string {
	found := []string{}
	for _, s := range a.all(metric) {
		caller, callee := s.Metric.Get("caller"), s.Metric.Get("callee")
		if caller == service || callee == service {
			found = append(found, fmt.Sprintf("%s → %s.%s", caller, callee, s.Metric.Get("method")))
		}
	}
	slices.Sort(found)
	return found
}

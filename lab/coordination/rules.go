package coordination

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What the rules are made with. Durations are of Kubernetes' clock; a run in
// time-lapse shortens them as it does those of every rule.
const (
	// Utilization is how busy a replica is meant to be: the head-room above it is
	// for chance in arrivals. It is the target of the other ways of scaling.
	Utilization = 0.7
	// Horizon is how far ahead demand is looked for when it rises: what passes
	// until a new replica serves (scrape, rule, the autoscaler's next look, start).
	Horizon = "45s"
	// half is the time that each of the two lines is laid through. The lesser of
	// both is followed: a jump makes one of them steep, and is no line.
	half = "30s"
	// MostGrowth bounds what the line may promise, as a part of what is offered
	// now.
	MostGrowth = 1.25
	// A jump is when the newest two scrapes say so much more than the rate of
	// three. Less may be chance, of which an autoscaler that scales up at once
	// would keep the most; and more than MostJump it cannot be but by chance.
	LeastJump, MostJump = 1.25, 3
	// measured is the time over which visits are counted, and kept the time that
	// a count holds when none can be made.
	measured, kept = "5m", "30m"
	// enough is how many calls of the caller make a count of visits.
	enough = 30
	// failing is the part of a service's calls that may fail before what it calls
	// says nothing of what it would call.
	failing = 0.05
)

// refused are the codes of calls that did not get to make all their calls.
const refused = "ResourceExhausted|DeadlineExceeded|Unavailable|Canceled"

// Rules is the rule file of a graph, in Prometheus' format. The same graph gives
// the same text.
func (g *Graph) Rules() string {
	w := &writer{}
	w.text(head)
	g.visits(w)
	g.demand(w)
	g.required(w)
	g.differences(w)
	return w.String()
}

const head = `# Made of k8s/base/callgraph.yaml by "make generate"; change that, not this.
#
# The replicas that every service needs now, from what people ask of the edge:
# offered calls by route × visits ÷ (what one replica can answer × its head-room).
# Pressure has not to travel down the graph hop by hop before the last tier hears
# of it. The figures of single services are those of mesh.yaml.
groups:
  - name: coordination
    interval: 10s
    rules:
`

type writer struct{ strings.Builder }

func (w *writer) text(s string) { w.WriteString(s) }

// note is a comment above the rules that follow.
func (w *writer) note(text string) {
	for line := range strings.Lines(text) {
		w.text("      # " + strings.TrimSuffix(line, "\n") + "\n")
	}
}

// rule is a recording rule, with labels in pairs of name and value.
func (w *writer) rule(record, expr string, labels ...string) {
	w.text("      - record: " + record + "\n")
	if lines := strings.Split(strings.TrimSpace(expr), "\n"); len(lines) == 1 {
		w.text("        expr: " + lines[0] + "\n")
	} else {
		w.text("        expr: |\n")
		for _, line := range lines {
			w.text("          " + line + "\n")
		}
	}
	if len(labels) > 0 {
		var pairs []string
		for i := 0; i+1 < len(labels); i += 2 {
			pairs = append(pairs, labels[i]+": "+labels[i+1])
		}
		w.text("        labels: {" + strings.Join(pairs, ", ") + "}\n")
	}
}

// visits writes how many calls each method makes.
func (g *Graph) visits(w *writer) {
	w.note("Visits as they are declared: calls of a callee's method, per call of the\ncaller's.")
	for _, c := range g.Calls {
		w.rule("spillway:call_visits_declared:ratio", fmt.Sprintf("vector(%v)", c.Visits),
			"caller", c.Caller, "caller_method", c.CallerMethod, "callee", c.Callee, "method", c.Method)
	}
	w.note(`Calls of methods whose service did its work: one that refuses, or whose callees
fail it, does not make all the calls that it would make; and over the long time
alone its counts would be bent before that is noticed.`)
	w.rule("spillway:method_served_calls:increase", fmt.Sprintf(`
sum by (caller, caller_method) (
  label_replace(
    label_replace(increase(grpc_server_started_total[%[1]s]), "caller_method", "$1", "grpc_method", "(.*)"),
    "caller", "$1", "callee", "(.*)")
)
unless on (caller)
  label_replace(
    (
        sum by (callee) (rate(grpc_server_handled_total{grpc_code=~"%[2]s"}[%[1]s]))
      > %[3]v * sum by (callee) (rate(grpc_server_handled_total[%[1]s]))
    )
    or
    (
        sum by (callee) (rate(grpc_server_handled_total{grpc_code=~"%[2]s"}[30s]))
      > %[3]v * sum by (callee) (rate(grpc_server_handled_total[30s]))
    ),
    "caller", "$1", "callee", "(.*)")`, measured, refused, failing))
	w.note(fmt.Sprintf(`Visits as they are measured: the declared ones, times calls that were made over
calls that were to be made. Where a callee's method is called by several of the
caller's they are in the proportion that is declared. A retry is no call: the
caller's metrics count it as an attempt. Fewer than %d calls tell nothing.`, enough))
	w.rule("spillway:call_visits_measured:ratio", fmt.Sprintf(`
  (spillway:call_visits_declared:ratio > 0)
* on (caller, callee, method) group_left ()
  (
      sum by (caller, callee, method) (
        label_replace(increase(grpc_client_started_total[%s]), "method", "$1", "grpc_method", "(.*)"))
    /
      (
        sum by (caller, callee, method) (
            spillway:call_visits_declared:ratio
          * on (caller, caller_method) group_left ()
            spillway:method_served_calls:increase
        ) >= %d
      )
  )`, measured, enough))
	w.note("What was measured last holds while nothing can be measured, as under overload.")
	w.rule("spillway:call_visits:ratio", fmt.Sprintf("last_over_time(spillway:call_visits_measured:ratio[%s]) or spillway:call_visits_declared:ratio", kept))
}

// demand writes what the edge is asked for, and what comes of it further down.
func (g *Graph) demand(w *writer) {
	w.note(`What people ask of the edge by route, before anything is refused: calls are
counted as they arrive. Repetitions of people's own are in it, those between
services are not.`)
	w.rule("spillway:route_demand_calls:rate", fmt.Sprintf(
		`sum by (route) (label_replace(rate(grpc_server_started_total{callee="%s"}[30s]), "route", "$1", "grpc_method", "(.*)"))`, g.Edge))
	w.rule("spillway:edge_demand_calls:rate", "sum(spillway:route_demand_calls:rate)")
	w.note(fmt.Sprintf(`By how much more it is by now, or will be %s ahead; never less. The newest two
scrapes know a jump at once, of which a rate over 30 s first shows half; by less
than %v they differ by chance. Lines through the last %s and the %s before look
ahead where both rise, to at most %v times what is offered now. Of all routes
together, which chance moves less than each.`, Horizon, LeastJump, half, half, MostGrowth))
	w.rule("spillway:edge_newest_calls:rate", fmt.Sprintf(`sum(irate(grpc_server_started_total{callee="%s"}[30s]))`, g.Edge))
	older, newer := fmt.Sprintf("deriv(spillway:edge_demand_calls:rate[%s] offset %s)", half, half), fmt.Sprintf("deriv(spillway:edge_demand_calls:rate[%s])", half)
	w.rule("spillway:edge_slope_calls:deriv", fmt.Sprintf("%s < %s\nor\n%s and %s", older, newer, newer, older))
	w.rule("spillway:edge_growth:ratio", fmt.Sprintf(`
clamp(
  max(
      label_replace(spillway:edge_newest_calls:rate / (spillway:edge_demand_calls:rate > 0) >= %v, "by", "newest", "", "")
    or
      label_replace(
        clamp_max(1 + %s * spillway:edge_slope_calls:deriv / (spillway:edge_demand_calls:rate > 0), %v),
        "by", "line", "", "")
  ), 1, %v)`, LeastJump, Horizon, MostGrowth, MostJump))
	w.rule("spillway:route_forecast_calls:rate",
		"spillway:route_demand_calls:rate * on () group_left () spillway:edge_growth:ratio\nor\nspillway:route_demand_calls:rate")
	w.note("What comes of it at each service, callers before callees: calls by route and by\nthe service's own method.")
	w.rule("spillway:call_demand_calls:rate", `sum by (route, method) (label_replace(spillway:route_forecast_calls:rate, "method", "$1", "route", "(.*)"))`, "service", g.Edge)
	for _, service := range g.services {
		if terms := g.terms(service); len(terms) > 0 {
			w.rule("spillway:call_demand_calls:rate", "sum by (route, method) (\n"+strings.Join(terms, "\nor\n")+"\n)", "service", service)
		}
	}
}

// terms are the parts of a service's demand, one for each of its methods and
// callers.
func (g *Graph) terms(service string) []string {
	pairs := map[[2]string]bool{}
	for _, c := range g.Calls {
		if c.Callee == service && c.Visits > 0 {
			pairs[[2]string{c.Caller, c.Method}] = true
		}
	}
	var terms []string
	for _, p := range slices.SortedFunc(maps.Keys(pairs), func(a, b [2]string) int { return strings.Compare(a[0]+" "+a[1], b[0]+" "+b[1]) }) {
		terms = append(terms, fmt.Sprintf(`  label_replace(
    sum by (service, route) (
        label_replace(spillway:call_demand_calls:rate{service="%s"}, "caller_method", "$1", "method", "(.*)")
      * on (caller_method) group_left ()
        spillway:call_visits:ratio{caller="%s", callee="%s", method="%s"}
    ), "method", "%s", "", "")`, p[0], p[0], service, p[1], p[1]))
	}
	return terms
}

// required writes the replicas, within the bounds of what cannot scale.
func (g *Graph) required(w *writer) {
	fixed := slices.Sorted(maps.Keys(g.Quotas))
	bounds := map[string][]string{} // by service above: those below it that cannot scale
	for _, service := range fixed {
		w.note(fmt.Sprintf("%s cannot scale: what it can answer, by its replicas and by its quota, bounds\nwhat its callers are made ready for. The rest is to be refused at the edge.", strings.ToUpper(service[:1])+service[1:]))
		limit := fmt.Sprintf(`spillway:service_capacity_calls:rate{service="%s"}`, service)
		if quota := g.Quotas[service]; quota != "" {
			limit = fmt.Sprintf("min(\n    label_replace(%s, \"by\", \"replicas\", \"\", \"\")\n  or\n    label_replace(max(spillway_knob_value{service=\"%s\", knob=\"%s\"}), \"by\", \"quota\", \"\", \"\")\n)", limit, service, quota)
		} else {
			limit = "sum(" + limit + ")"
		}
		w.rule("spillway:service_limit_calls:rate", limit, "service", service)
		w.rule("spillway:route_bound:ratio", fmt.Sprintf(`
  0 * sum by (route) (spillway:call_demand_calls:rate{service="%[1]s"})
+ on () group_left ()
  clamp_max(
    sum(spillway:service_limit_calls:rate{service="%[1]s"}) / sum(spillway:call_demand_calls:rate{service="%[1]s"}),
    1)`, service), "dependency", service)
		for _, above := range g.Above(service) {
			bounds[above] = append(bounds[above], service)
		}
	}
	w.note("Calls that a service is made ready for.")
	var terms []string
	for _, service := range slices.Sorted(maps.Keys(bounds)) {
		terms = append(terms, fmt.Sprintf("    spillway:call_demand_calls:rate{service=\"%s\"}\n  * on (route) group_left ()\n    min by (route) (spillway:route_bound:ratio{dependency=~\"%s\"})\nor", service, strings.Join(bounds[service], "|")))
	}
	// Who was never asked for anything needs nothing, which an autoscaler must be
	// able to read.
	terms = append(terms, "  spillway:call_demand_calls:rate\nor\n  sum by (service) (0 * spillway_capacity_slots)")
	w.rule("spillway:service_edge_demand_calls:rate", "sum by (service) (\n"+indent(strings.Join(terms, "\n"))+"\n)")
	w.note(fmt.Sprintf(`Replicas for it, each %v busy; not rounded up, which the autoscaler does. What one
can answer is told by the best one, as in spillway:service_demand:ratio.`, Utilization))
	expr := fmt.Sprintf("  spillway:service_edge_demand_calls:rate\n/ on (service)\n  (%v * max by (service) (spillway:pod_capacity_calls:rate > 0))", Utilization)
	if len(fixed) > 0 {
		expr = strings.Replace(expr, "calls:rate\n", fmt.Sprintf("calls:rate{service!~\"%s\"}\n", strings.Join(fixed, "|")), 1)
	}
	w.rule("spillway:service_required_replicas:sum", expr)
	w.note("The simple rival: how many replicas a service's callers are given.")
	w.rule("spillway:service_caller_replicas:sum", `
sum by (service) (
  label_replace(
      (max by (caller, callee) (spillway:call_visits_declared:ratio > 0) > bool 0)
    * on (caller) group_left ()
      label_replace(spillway:service_replicas_desired, "caller", "$1", "service", "(.*)"),
    "service", "$1", "callee", "(.*)")
)`)
}

// differences writes where the declared graph and what is seen are not one.
func (g *Graph) differences(w *writer) {
	w.note("Calls that nobody declared, and declared ones that nobody makes although the\ncaller answers calls that should make them.")
	w.rule("spillway:call_undeclared:increase", fmt.Sprintf(`
(
  sum by (caller, callee, method) (
    label_replace(increase(grpc_client_started_total[%s]), "method", "$1", "grpc_method", "(.*)")) > 0
)
unless on (caller, callee, method) spillway:call_visits_declared:ratio`, measured))
	w.rule("spillway:call_unseen:increase", fmt.Sprintf(`
(
  sum by (caller, callee, method) (
      (spillway:call_visits_declared:ratio{method!="%s"} > 0)
    * on (caller, caller_method) group_left ()
      spillway:method_served_calls:increase
  ) >= %d
)
unless on (caller, callee, method)
  (
    sum by (caller, callee, method) (
      label_replace(increase(grpc_client_started_total[%s]), "method", "$1", "grpc_method", "(.*)")) > 0
  )`, Queue, enough, measured))
}

// indent moves the lines of a text to the right.
func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

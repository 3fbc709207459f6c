package why

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Tolerance is by how much a metric may miss its target before an autoscaler
// does anything: Kubernetes' default.
const Tolerance = 0.1

// Text writes an answer as people read it. hpa is the service's autoscaler; nil
// stands for a service that has none.
func (a *Answer) Text(to io.Writer, hpa *autoscalingv2.HorizontalPodAutoscaler) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s\n", a.Service, a.headline(hpa))
	a.edge(&text)
	a.reached(&text)
	a.needed(&text)
	a.own(&text)
	decision(&text, hpa)
	for _, call := range a.Undeclared {
		fmt.Fprintf(&text, "\n%s is called, and the declared graph has no such call: what it asks for is not in the demand. k8s/base/callgraph.yaml; docs/runbooks/CallGraphDiffers.md\n", call)
	}
	for _, call := range a.Unseen {
		fmt.Fprintf(&text, "\n%s is declared, and nobody makes the call: its demand is not real. k8s/base/callgraph.yaml; docs/runbooks/CallGraphDiffers.md\n", call)
	}
	for line := range strings.Lines(text.String()) { // without the padding of empty cells
		if _, err := fmt.Fprintln(to, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// headline is the answer in one line.
func (a *Answer) headline(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	there := "of which nobody tells how many are there"
	if a.Own.Ready != nil && a.Own.Desired != nil {
		there = fmt.Sprintf("%s of %s are ready", number(*a.Own.Ready), number(*a.Own.Desired))
	}
	needs := "is not to be scaled"
	if a.Required != nil {
		needs = "needs " + replicas(max(0, math.Ceil(*a.Required-1e-9))) + " for what people ask of the edge"
	}
	if hpa == nil {
		return fmt.Sprintf("%s; %s, and no autoscaler would change that", needs, there)
	}
	return fmt.Sprintf("%s; its autoscaler wants %s; %s", needs, replicas(float64(hpa.Status.DesiredReplicas)), there)
}

func (a *Answer) edge(text *strings.Builder) {
	fmt.Fprintf(text, "\nWhat people ask of the edge, in calls per second, before anything is refused\n")
	w := table(text)
	fmt.Fprintf(w, "  ROUTE\tNOW\tMADE READY FOR\n")
	for _, r := range a.Routes {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", r.Name, number(r.Now), number(r.Ahead))
	}
	w.Flush()
	switch {
	case len(a.Routes) == 0:
		fmt.Fprintln(text, "  nothing yet")
	case a.Growth != nil && *a.Growth > 1:
		fmt.Fprintf(text, "  it grows: %s times that, by the newest scrapes or by a line to when a replica that is asked for now would serve\n", number(*a.Growth))
	}
}

func (a *Answer) reached(text *strings.Builder) {
	fmt.Fprintf(text, "\nWhat comes of it at %s\n", a.Service)
	w := table(text)
	fmt.Fprintf(w, "  ROUTE\tMETHOD\tVISITS\tCALLS PER SECOND\n")
	for _, c := range a.Calls {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", c.Route, c.Method, number(c.Visits), number(c.Demand))
	}
	w.Flush()
	if len(a.Calls) == 0 {
		fmt.Fprintln(text, "  nothing")
	}
	for _, v := range a.Visits {
		how := "declared"
		if v.Measured {
			how = "measured"
		}
		fmt.Fprintf(text, "  %s.%s makes %s %s of %s.%s (%s)\n", v.Caller, v.CallerMethod, number(v.Visits), plural(v.Visits, "call"), a.Service, v.Method, how)
	}
	for _, b := range a.Bounds {
		fmt.Fprintf(text, "  bounded: %s cannot scale and takes %s calls per second, %s %% of what %s would bring it\n", b.Dependency, number(b.Limit), number(100*b.Share), b.Route)
	}
}

func (a *Answer) needed(text *strings.Builder) {
	fmt.Fprintf(text, "\nWhat that needs\n")
	w := table(text)
	fmt.Fprintf(w, "  made ready for\t%s\tcalls per second\n", number(a.Demand))
	if a.One == nil {
		fmt.Fprintf(w, "  one replica answers\t?\tnone tells\n")
	} else {
		fmt.Fprintf(w, "  one replica answers\t%s\tcalls per second\n", number(*a.One))
	}
	if a.Required != nil {
		if a.One != nil && *a.Required > 0 {
			fmt.Fprintf(w, "  to be busy at\t%s\t%%\n", number(100*a.Demand/(*a.One**a.Required)))
		}
		fmt.Fprintf(w, "  replicas\t%s\tof %s ÷ (%s × %s)\n", number(*a.Required), "made ready for", "one replica", "busy")
	}
	if a.Callers != nil {
		fmt.Fprintf(w, "  its callers' replicas\t%s\twhat scaling-workload goes by\n", number(*a.Callers))
	}
	w.Flush()
}

func (a *Answer) own(text *strings.Builder) {
	fmt.Fprintf(text, "\nWhat %s shows of itself\n", a.Service)
	w := table(text)
	for _, f := range []struct {
		name, unit string
		value      *float64
		times      float64
	}{
		{"offered", "calls per second", a.Own.Offered, 1},
		{"its ready replicas answer", "calls per second", a.Own.Capacity, 1},
		{"pressure", "", a.Own.Pressure, 1},
		{"slots busy", "%", a.Own.Utilization, 100},
	} {
		if f.value == nil {
			fmt.Fprintf(w, "  %s\t?\tnobody tells\n", f.name)
			continue
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", f.name, number(*f.value*f.times), f.unit)
	}
	w.Flush()
}

// decision writes what each metric of an autoscaler asks for, and what it does.
func decision(text *strings.Builder, hpa *autoscalingv2.HorizontalPodAutoscaler) {
	if hpa == nil {
		return
	}
	least := int32(1)
	if hpa.Spec.MinReplicas != nil {
		least = *hpa.Spec.MinReplicas
	}
	fmt.Fprintf(text, "\nWhat its autoscaler makes of it, from %d to %d replicas\n", least, hpa.Spec.MaxReplicas)
	w := table(text)
	fmt.Fprintf(w, "  METRIC\tIS\tTARGET\tASKS FOR\n")
	for i, spec := range hpa.Spec.Metrics {
		// An autoscaler that cannot read a metric leaves it out, or leaves it empty.
		var status autoscalingv2.MetricStatus
		if i < len(hpa.Status.CurrentMetrics) {
			status = hpa.Status.CurrentMetrics[i]
		}
		name, is, target, wants := metric(spec, status, hpa.Status.CurrentReplicas)
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", name, is, target, wants)
	}
	w.Flush()
	fmt.Fprintf(text, "  it wants the largest, and of what it wanted in the last minutes it keeps the most: %s\n", replicas(float64(hpa.Status.DesiredReplicas)))
	for _, c := range hpa.Status.Conditions {
		fmt.Fprintf(text, "  %s %s: %s\n", c.Type, strings.ToLower(string(c.Status)), c.Message)
	}
}

// metric is one row: what it is, where it stands, where it should, and how many
// replicas bring it there, by Kubernetes' formula ⌈replicas × is ÷ target⌉ and
// with its tolerance.
func metric(spec autoscalingv2.MetricSpec, status autoscalingv2.MetricStatus, current int32) (name, is, target, wants string) {
	const unknown = "?"
	name, is, target, wants = string(spec.Type), unknown, unknown, unknown
	now := float64(current)
	ask := func(quotient float64) string {
		if math.Abs(quotient-1) <= Tolerance {
			return fmt.Sprintf("%d", current)
		}
		return strconv.FormatFloat(math.Ceil(quotient*now-1e-9), 'f', -1, 64)
	}
	switch {
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil && spec.Resource.Target.AverageUtilization != nil:
		name = spec.Resource.Name.String()
		want := float64(*spec.Resource.Target.AverageUtilization)
		target = number(want) + " %"
		if status.Resource != nil && status.Resource.Current.AverageUtilization != nil {
			have := float64(*status.Resource.Current.AverageUtilization)
			is, wants = number(have)+" %", ask(have/want)
		}
	case spec.Type == autoscalingv2.ExternalMetricSourceType && spec.External != nil:
		name = spec.External.Metric.Name
		switch t := spec.External.Target; {
		case t.AverageValue != nil:
			want := t.AverageValue.AsApproximateFloat64()
			target = number(want) + " a replica"
			if status.External != nil && status.External.Current.AverageValue != nil {
				have := status.External.Current.AverageValue.AsApproximateFloat64()
				is, wants = number(have)+" a replica", ask(have/want)
			}
		case t.Value != nil:
			want := t.Value.AsApproximateFloat64()
			target = number(want)
			if status.External != nil && status.External.Current.Value != nil {
				have := status.External.Current.Value.AsApproximateFloat64()
				is, wants = number(have), ask(have/want)
			}
		}
	}
	return name, is, target, wants
}

func table(to io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(to, 0, 0, 3, ' ', 0) }

// number writes a figure with three digits that mean something.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "?"
	case size >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

func plural(n float64, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

func replicas(n float64) string { return number(n) + " " + plural(n, "replica") }

func joined(names []string) string { return strings.Join(names, ", ") }

package report

import (
	"fmt"
	"strings"

	"spillway.dev/lab/measure"
)

// Answer says in one sentence what came out, by the measure of the first
// expectation that every variant has, or by what was answered in time.
func Answer(r *Result) string {
	keys := []string{}
	for _, e := range r.Expectations {
		keys = append(keys, e.Measure)
	}
	for _, key := range append(keys, missedKey) {
		if text := sayMeasure(r, key); text != "" {
			return text
		}
	}
	return "Nothing was measured that all variants have."
}

func sayMeasure(r *Result, key string) string {
	m := meaningOf(key)
	var parts []string
	for i, v := range r.Variants {
		s, have := v.Measures[key]
		if !have {
			return ""
		}
		value := m.value(s.Median)
		if i == 0 && m.unit != "" {
			value += " " + m.unit
		}
		parts = append(parts, fmt.Sprintf("%s with “%s”", value, v.Name))
	}
	if len(parts) == 0 {
		return ""
	}
	last := parts[len(parts)-1]
	if len(parts) > 1 {
		last = strings.Join(parts[:len(parts)-1], ", ") + " and " + last
	}
	if key == missedKey {
		return "Answered rightly and in time: " + last + "."
	}
	return m.label + ": " + last + "."
}

// note says what the numbers of the table are.
func note(r *Result, repeated bool) string {
	if !repeated {
		return "Below a value: its difference to " + letter(0) + ". Each variant ran once, so there are no intervals: small differences may be chance (run with --repeat 5 to know)."
	}
	return "Medians, with 95 % bootstrap intervals of the median below; then the difference to " + letter(0) +
		" with the widest interval that the two intervals allow. It is called better or worse only where that interval leaves 0 out."
}

func (p *page) facts(r *Result) {
	p.Facts = append(p.Facts, fact{"Variants", fmt.Sprint(len(r.Variants))})
	if repeats := r.Variants[0].Repeats; repeats > 0 {
		p.Facts = append(p.Facts, fact{"Repeats", fmt.Sprint(repeats)})
	}
	if p.Span > 0 {
		p.Facts = append(p.Facts, fact{"Load for", clock(float64(p.Span))})
	}
	p.Facts = append(p.Facts, fact{"Time-lapse", timelapse(r.Timelapse)}, fact{"Seed", fmt.Sprint(r.Seed)}, fact{"Commit", r.Commit})
	if !r.Began.IsZero() {
		p.Facts = append(p.Facts, fact{"Began", r.Began.UTC().Format("2006-01-02 15:04 UTC")})
	}
}

func timelapse(n float64) string {
	if lapse(n) == 1 {
		return "none"
	}
	return number(n) + " ×"
}

func (p *page) parts() {
	add := func(have bool, id, name string) {
		if have {
			p.Parts = append(p.Parts, part{id, name})
		}
	}
	add(len(p.Expectations) > 0, "expectations", "What was expected")
	add(true, "variants", "Variants side by side")
	add(p.Tradeoff != nil, "cost", "Cost")
	add(len(p.Strips) > 0, "pressure", "Where the pressure was")
	add(len(p.Overall) > 0, "time", "Over time")
	add(len(p.Services) > 0, "services", "Service by service")
	add(len(p.Graphs) > 0, "calls", "Who called whom")
	add(p.Actions != nil, "actions", "Scaling actions")
	add(len(p.Traces) > 0, "traces", "Slowest traces")
	add(true, "trust", "How far to trust it")
	add(true, "again", "Do it again")
}

// trustIn says what the figures rest on.
func trustIn(r *Result) trust {
	var t trust
	if n := lapse(r.Timelapse); n != 1 {
		t.Says = append(t.Says, fmt.Sprintf("Time-lapse %s: a second of the scenario took %s s. Every duration of the scenario and of the autoscaler was divided by %s; service times were not, so rates are per real second and latencies are real. What is tied to service times, such as a queue that drains, takes %s times as much scenario time as without a time-lapse.",
			number(n), number(1/n), number(n), number(n)))
	} else {
		t.Says = append(t.Says, "No time-lapse: a second of the scenario took a second.")
	}
	t.Says = append(t.Says, "The capacity of a replica is modelled (slots and a service time), so that scaling out adds real capacity on a small machine. A run is valid while the generator and the modelled replicas kept their times; the table has how well.")
	table := dataTable{Caption: "How far the host kept up",
		Columns: []string{"Variant", fmt.Sprintf("Generator's lag, p99, ms (limit %s)", number(measure.LagLimit)),
			fmt.Sprintf("Host's CPU, mean %% (limit %s)", number(100*measure.HostCPULimit)),
			"Kept away by a hypervisor, mean %",
			fmt.Sprintf("Worst lateness, %% of service time (limit %s)", number(100*measure.LatenessLimit))}}
	for i, v := range r.Variants {
		rec := v.Recording
		if rec == nil {
			continue
		}
		row := []string{letter(i) + " " + v.Name, number(rec.LagP99), none, none, none}
		if busy, measured := mean(rec.HostCPU, rec.Warmup, rec.Duration); measured {
			row[2] = number(100 * busy)
		}
		if stolen, measured := mean(rec.HostStolen, rec.Warmup, rec.Duration); measured {
			row[3] = number(100 * stolen)
		}
		worst, where := 0.0, ""
		for _, s := range rec.Services {
			if s.ServiceTime > 0 && s.LatenessP50/s.ServiceTime >= worst {
				worst, where = s.LatenessP50/s.ServiceTime, s.Name
			}
		}
		if where != "" {
			row[4] = number(100*worst) + " (" + where + ")"
		}
		table.Rows = append(table.Rows, row)
	}
	if len(table.Rows) > 0 {
		t.Table = &table
	}
	return t
}

// mean is the mean of s over time in [from, to); false where s says nothing.
func mean(s measure.Series, from, to float64) (float64, bool) {
	var sum, time float64
	for i, p := range s {
		begin, end := max(p.T, from), to
		if i+1 < len(s) {
			end = min(s[i+1].T, to)
		}
		if end > begin {
			sum += p.V * (end - begin)
			time += end - begin
		}
	}
	return sum / time, time > 0
}

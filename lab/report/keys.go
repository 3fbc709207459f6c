package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"spillway.dev/lab/measure"
)

// better tells which way a measure should go.
type better int

const (
	neither better = iota
	higher
	lower
)

// meaning is how a measure is shown.
type meaning struct {
	label string
	unit  string
	// ratio measures are shown in percent.
	ratio  bool
	better better
}

// group is a part of the table of variants.
type group struct {
	name string
	keys []string
}

// meanings has every key of report.json. A key that ends in a dot stands for
// all keys that begin with it: one for each service or priority.
var meanings = map[string]meaning{
	"offered_per_s":     {label: "Offered", unit: "requests/s"},
	"goodput_per_s":     {label: "Goodput: right and in time", unit: "requests/s", better: higher},
	"goodput_ratio":     {label: "Answered in time, of what was offered", ratio: true, better: higher},
	"goodput_ratio.":    {label: "Answered in time, ", ratio: true, better: higher},
	"shed_ratio":        {label: "Shed: refused on purpose", ratio: true, better: lower},
	"p50_ms":            {label: "Latency, median", unit: "ms", better: lower},
	"p99_ms":            {label: "Latency, 99th percentile", unit: "ms", better: lower},
	"p999_ms":           {label: "Latency, 99.9th percentile", unit: "ms", better: lower},
	"lost_requests":     {label: "Lost requests", better: lower},
	"double_executions": {label: "Executed twice", better: lower},
	"sessions_lost":     {label: "Sessions lost", better: lower},
	"quota_breaches":    {label: "Breaches of the bank's quota", better: lower},
	"overload_seconds":  {label: "Time with a service above pressure 1", unit: "s", better: lower},
	"recovery_seconds":  {label: "Time to recover", unit: "s", better: lower},
	"peak_pressure.":    {label: "Peak pressure on ", better: lower},
	"amplification.":    {label: "Amplification at ", unit: "×", better: lower},
	"load_skew":         {label: "Load skew between replicas", better: lower},
	"theta_u":           {label: "Under-provisioning accuracy θU", unit: "%", better: lower},
	"theta_o":           {label: "Over-provisioning accuracy θO", unit: "%", better: lower},
	"tau_u":             {label: "Under-provisioning timeshare τU", unit: "%", better: lower},
	"tau_o":             {label: "Over-provisioning timeshare τO", unit: "%", better: lower},
	"instability":       {label: "Instability υ", unit: "%", better: lower},
	"scaling_actions":   {label: "Scaling actions", better: neither},
	"replica_seconds":   {label: "Replica-seconds", unit: "s", better: lower},
	"node_seconds":      {label: "Node-seconds", unit: "s", better: lower},
}

// groups are the parts of the table, most wanted first.
var groups = []group{
	{"What people got", []string{"offered_per_s", "goodput_per_s", "goodput_ratio", "goodput_ratio.", "shed_ratio", "p50_ms", "p99_ms", "p999_ms"}},
	{"What went wrong", []string{"lost_requests", "double_executions", "sessions_lost", "quota_breaches"}},
	{"Overload", []string{"overload_seconds", "recovery_seconds", "load_skew", "peak_pressure.", "amplification."}},
	{"Scaling", []string{"scaling_actions", "theta_u", "theta_o", "tau_u", "tau_o", "instability"}},
	{"Cost", []string{"replica_seconds", "node_seconds"}},
}

// family is the entry of meanings that stands for key, and what comes after it.
func family(key string) (name, rest string) {
	if _, known := meanings[key]; known {
		return key, ""
	}
	if head, tail, dotted := strings.Cut(key, "."); dotted {
		if _, known := meanings[head+"."]; known {
			return head + ".", tail
		}
	}
	return "", key
}

// meaningOf is how key is shown; a key that nobody told of is shown as it is.
func meaningOf(key string) meaning {
	name, rest := family(key)
	m, known := meanings[name]
	if !known {
		return meaning{label: key}
	}
	m.label += rest
	return m
}

// value writes a measure with its unit left out; ratios get their percent sign.
func (m meaning) value(v float64) string {
	if !finite(v) {
		return none
	}
	if m.ratio {
		return fixed(100*v, 1) + " %"
	}
	return number(v)
}

// difference writes a change with its sign; that of a ratio is in points.
func (m meaning) difference(v float64) string {
	if !finite(v) {
		return none
	}
	text := number(v)
	if m.ratio {
		text = strings.ReplaceAll(fixed(100*v, 1), "-", "−")
	}
	if v > 0 {
		text = "+" + text
	}
	if text == "−0" || text == "+0" {
		text = "0"
	}
	return text
}

// keyed is a group with the keys that were really measured.
type keyed struct {
	name string
	keys []string
}

// measured puts every key that some variant has under its group, in the order
// of groups; what has no group comes last, so that nothing is left out.
func measured(variants []map[string]measure.Summary) []keyed {
	all := map[string]bool{}
	for _, v := range variants {
		for key := range v {
			all[key] = true
		}
	}
	var out []keyed
	for _, g := range groups {
		var keys []string
		for _, name := range g.keys {
			for _, key := range slices.SortedFunc(maps.Keys(all), cmp.Compare) {
				if f, _ := family(key); f == name {
					keys = append(keys, key)
					delete(all, key)
				}
			}
		}
		if len(keys) > 0 {
			out = append(out, keyed{g.name, keys})
		}
	}
	if len(all) > 0 {
		out = append(out, keyed{"Other measures", slices.Sorted(maps.Keys(all))})
	}
	return out
}

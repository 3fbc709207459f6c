package report

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"spillway.dev/lab/measure"
)

// groups are the parts of the table of variants, with the names of the measures
// in each. A measure that is in none of them comes last.
var groups = []struct {
	name  string
	names []string
}{
	{"What people got", []string{"offered_per_s", "goodput_per_s", "goodput_ratio", "journey_goodput_ratio", "rise_goodput_ratio", "capacity_goodput_ratio", "shed_ratio", "p50_ms", "p99_ms", "p999_ms"}},
	{"What went wrong", []string{"lost_requests", "double_executions", "sessions_lost", "quota_breaches"}},
	{"Overload", []string{"overload_seconds", "recovery_seconds", "load_skew", "peak_pressure", "amplification", "fault_amplification"}},
	{"Scaling", []string{"scaling_actions", "flapping", "theta_u", "theta_o", "tau_u", "tau_o", "instability"}},
	{"Cost", []string{"replica_seconds", "node_seconds"}},
}

// meaning is how a measure is shown.
type meaning struct {
	label string
	unit  string
	// ratio measures are shown in percent.
	ratio  bool
	better better
}

// better is which way a measure should go.
type better int

const (
	neither better = iota
	higher
	lower
)

// labels has the measures by the name before the dot. Those that say what was
// offered or done have no better way to go.
var labels = map[string]struct {
	text   string
	better better
}{
	"offered_per_s":          {"Offered load", neither},
	"goodput_per_s":          {"Goodput: right and in time", higher},
	"goodput_ratio":          {"Goodput, of what was offered", higher},
	"journey_goodput_ratio":  {"Goodput, of what was offered", higher},
	"capacity_goodput_ratio": {"Goodput, of what the replicas could serve", higher},
	"rise_goodput_ratio":     {"Goodput, of what was offered while load rose", higher},
	"shed_ratio":             {"Shed, of what was offered", lower},
	"p50_ms":                 {"Latency, median", lower},
	"p99_ms":                 {"Latency, 99th percentile", lower},
	"p999_ms":                {"Latency, 99.9th percentile", lower},
	"lost_requests":          {"Requests lost", lower},
	"double_executions":      {"Requests run twice", lower},
	"sessions_lost":          {"Sessions lost", lower},
	"quota_breaches":         {"Charges over the bank's quota", lower},
	"overload_seconds":       {"Time with a drowning service", lower},
	"recovery_seconds":       {"Time to recover from a fault", lower},
	"load_skew":              {"Busiest replica against the mean", lower},
	"peak_pressure":          {"Peak pressure", lower},
	"amplification":          {"Attempts per call asked for", lower},
	"fault_amplification":    {"Attempts per call asked for, under a fault", lower},
	"scaling_actions":        {"Scaling actions", neither},
	"flapping":               {"Scaling actions that undo one", lower},
	"theta_u":                {"Replicas missing of those needed, θU", lower},
	"theta_o":                {"Replicas in excess of those needed, θO", lower},
	"tau_u":                  {"Time with too few replicas, τU", lower},
	"tau_o":                  {"Time with too many replicas, τO", lower},
	"instability":            {"Time in which supply and demand part, υ", lower},
	"replica_seconds":        {"Cost in replica-seconds", lower},
	"node_seconds":           {"Cost in node-seconds", lower},
}

// meaningOf is how key is shown; one that nobody told of is shown as it is.
func meaningOf(key string) meaning {
	k, known := measure.Lookup(key)
	label, told := labels[k.Name]
	if !known || !told {
		return meaning{label: key}
	}
	m := meaning{label: label.text, unit: unitText(k.Unit), ratio: strings.HasSuffix(k.Name, "_ratio"), better: label.better}
	if _, of, dotted := strings.Cut(key, "."); dotted {
		m.label += ": " + of
	}
	return m
}

// unitText leaves out the units that only repeat what is counted.
func unitText(unit string) string {
	switch unit {
	case "1/s":
		return "per s"
	case "ms", "s", "%":
		return unit
	default:
		return ""
	}
}

func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}

// value writes a measure with its unit left out; ratios get their percent sign.
func (m meaning) value(v float64) string { return m.like(v, v) }

// like is value with the precision that ref has.
func (m meaning) like(v, ref float64) string {
	switch {
	case !m.ratio || !finite(v):
		return numberLike(v, ref)
	case v == 0 || v == 1:
		return fixed(100*v, 0) + " %"
	default:
		return grouped(strconv.FormatFloat(100*v, 'f', 1, 64)) + " %"
	}
}

// difference writes a change with its sign and the precision that ref has; that
// of a ratio is in points.
func (m meaning) difference(v, ref float64) string {
	text := numberLike(v, ref)
	if m.ratio && finite(v) {
		text = grouped(strconv.FormatFloat(100*v, 'f', 1, 64))
	}
	if v > 0 && strings.Trim(text, "0.") != "" {
		text = "+" + text
	}
	return text
}

// keyed is a part of a table with the keys that were really measured.
type keyed struct {
	name string
	keys []string
}

// detailed tells a measure of one service that belongs into the long table.
// Where the pressure was highest is what an experiment is about: it stays.
func detailed(key string) bool {
	k, known := measure.Lookup(key)
	return known && k.Of == "SERVICE" && k.Name != "peak_pressure"
}

// measured puts the keys that some variant has and that want takes under their
// group, in the order of measure.Keys. What has no group comes last, so that
// nothing is left out.
func measured(variants []map[string]measure.Summary, want func(key string) bool) []keyed {
	left := map[string]bool{}
	for _, v := range variants {
		for key := range v {
			if want(key) {
				left[key] = true
			}
		}
	}
	var out []keyed
	for _, g := range groups {
		var keys []string
		for _, k := range measure.Keys() {
			if !slices.Contains(g.names, k.Name) {
				continue
			}
			for _, key := range slices.Sorted(maps.Keys(left)) {
				name, _, dotted := strings.Cut(key, ".")
				if name == k.Name && dotted == (k.Of != "") {
					keys = append(keys, key)
					delete(left, key)
				}
			}
		}
		if len(keys) > 0 {
			out = append(out, keyed{g.name, keys})
		}
	}
	if len(left) > 0 {
		out = append(out, keyed{"Other measures", slices.Sorted(maps.Keys(left))})
	}
	return out
}

package measure

import (
	"slices"
	"strings"
)

// Better is which way a measure should go.
type Better string

const (
	// Higher values are better.
	Higher Better = "higher"
	// Lower values are better.
	Lower Better = "lower"
	// Neither: the measure describes what was offered.
	Neither Better = ""
)

// Key names a measure.
type Key struct {
	// Name is the key without what follows a dot.
	Name string
	// Of is what follows the dot, "SERVICE" or "PRIORITY"; empty when nothing
	// does.
	Of string
	// Unit is "1/s", "ms", "s", "%", "" for a ratio, or what is counted.
	Unit string
	// Better is which way is better for people and purse.
	Better Better
	// Label is the measure in a few words, for a table.
	Label string
}

// String is the key as it is written, such as "peak_pressure.SERVICE".
func (k Key) String() string {
	if k.Of == "" {
		return k.Name
	}
	return k.Name + "." + k.Of
}

// keys is in the order in which a table shows them.
var keys = [...]Key{
	{"offered_per_s", "", "1/s", Neither, "offered load"},
	{"goodput_per_s", "", "1/s", Higher, "goodput"},
	{"goodput_ratio", "", "", Higher, "goodput of offered"},
	{"goodput_ratio", "PRIORITY", "", Higher, "goodput of offered, one priority"},
	{"shed_ratio", "", "", Lower, "shed of offered"},
	{"p50_ms", "", "ms", Lower, "latency, median"},
	{"p99_ms", "", "ms", Lower, "latency, 99th percentile"},
	{"p999_ms", "", "ms", Lower, "latency, 99.9th percentile"},
	{"overload_seconds", "", "s", Lower, "time with a drowning service"},
	{"recovery_seconds", "", "s", Lower, "time to recover from a fault"},
	{"amplification", "SERVICE", "", Lower, "attempts per call asked for"},
	{"peak_pressure", "SERVICE", "", Lower, "highest pressure"},
	{"lost_requests", "", "requests", Lower, "requests lost"},
	{"double_executions", "", "executions", Lower, "requests run twice"},
	{"sessions_lost", "", "sessions", Lower, "sessions lost"},
	{"quota_breaches", "", "charges", Lower, "charges over the bank's quota"},
	{"scaling_actions", "", "actions", Lower, "scaling actions"},
	{"flapping", "", "actions", Lower, "scaling actions that undo one"},
	{"replica_seconds", "", "replica s", Lower, "cost in replicas"},
	{"node_seconds", "", "node s", Lower, "cost in nodes"},
	{"theta_u", "", "%", Lower, "replicas missing of those needed (θU)"},
	{"theta_u", "SERVICE", "%", Lower, "replicas missing, one service (θU)"},
	{"theta_o", "", "%", Lower, "replicas in excess of those needed (θO)"},
	{"theta_o", "SERVICE", "%", Lower, "replicas in excess, one service (θO)"},
	{"tau_u", "", "%", Lower, "time with too few replicas (τU)"},
	{"tau_u", "SERVICE", "%", Lower, "time with too few, one service (τU)"},
	{"tau_o", "", "%", Lower, "time with too many replicas (τO)"},
	{"tau_o", "SERVICE", "%", Lower, "time with too many, one service (τO)"},
	{"instability", "", "%", Lower, "time in which supply and demand part (υ)"},
	{"instability", "SERVICE", "%", Lower, "time in which they part, one service (υ)"},
	{"load_skew", "", "", Lower, "busiest replica against the mean"},
	{"load_skew", "SERVICE", "", Lower, "busiest replica against the mean, one service"},
}

// Keys is every measure there is, in the order in which a table shows them.
func Keys() []Key { return slices.Clone(keys[:]) }

// Lookup finds what a measure such as "peak_pressure.order" is; false when there
// is none of that name.
func Lookup(measure string) (Key, bool) {
	name, of, dotted := strings.Cut(measure, ".")
	for _, k := range keys {
		if k.Name == name && (k.Of != "") == dotted && dotted == (of != "") {
			return k, true
		}
	}
	return Key{}, false
}

package measure

import (
	"slices"
	"strings"
)

// Key names a measure.
type Key struct {
	// Name is the key without what follows a dot.
	Name string
	// Of is what follows the dot, "SERVICE", "PRIORITY" or "JOURNEY"; empty when nothing
	// does.
	Of string
	// Unit is "1/s", "ms", "s", "%", "" for a ratio, or what is counted. Seconds
	// are scenario seconds, rates and latencies are real.
	Unit string
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
	{"offered_per_s", "", "1/s"},
	{"goodput_per_s", "", "1/s"},
	{"goodput_ratio", "", ""},
	{"goodput_ratio", "PRIORITY", ""},
	{"journey_goodput_ratio", "JOURNEY", ""},
	{"rise_goodput_ratio", "", ""},
	{"capacity_goodput_ratio", "", ""},
	{"shed_ratio", "", ""},
	{"p50_ms", "", "ms"},
	{"p99_ms", "", "ms"},
	{"p999_ms", "", "ms"},
	{"overload_seconds", "", "s"},
	{"recovery_seconds", "", "s"},
	{"amplification", "SERVICE", ""},
	{"fault_amplification", "SERVICE", ""},
	{"peak_pressure", "SERVICE", ""},
	{"lost_requests", "", "requests"},
	{"double_executions", "", "executions"},
	{"sessions_lost", "", "sessions"},
	{"quota_breaches", "", "charges"},
	{"scaling_actions", "", "actions"},
	{"flapping", "", "actions"},
	{"replica_seconds", "", "replica s"},
	{"node_seconds", "", "node s"},
	{"theta_u", "", "%"},
	{"theta_u", "SERVICE", "%"},
	{"theta_o", "", "%"},
	{"theta_o", "SERVICE", "%"},
	{"tau_u", "", "%"},
	{"tau_u", "SERVICE", "%"},
	{"tau_o", "", "%"},
	{"tau_o", "SERVICE", "%"},
	{"instability", "", "%"},
	{"instability", "SERVICE", "%"},
	{"load_skew", "", ""},
	{"load_skew", "SERVICE", ""},
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

package measure

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wanted is the keys that report.json is promised to have.
const wanted = `offered_per_s goodput_per_s goodput_ratio shed_ratio p50_ms p99_ms p999_ms overload_seconds
	recovery_seconds amplification.SERVICE peak_pressure.SERVICE lost_requests double_executions scaling_actions
	replica_seconds node_seconds theta_u theta_o tau_u tau_o instability quota_breaches sessions_lost load_skew
	goodput_ratio.PRIORITY rise_goodput_ratio fault_amplification.SERVICE
	journey_goodput_ratio.JOURNEY capacity_goodput_ratio`

// full is a recording that has what every measure needs.
func full() *Recording {
	calls := steps(0, 10)
	return &Recording{
		Duration: 100, Rate: steps(0, 10, 50, 20), Mix: map[string]float64{"buy": 1},
		Load: []Load{
			{T: 0, Dur: 50, Counts: Counts{Offered: 9, Good: 9}, ByPriority: map[string]Counts{"critical": {Offered: 9, Good: 9}},
				ByJourney: map[string]Counts{"buy": {Offered: 9, Good: 9}}},
			{T: 50, Dur: 50, Counts: Counts{Offered: 9, Good: 9}},
		},
		Whole: Whole{Answered: 18, P50: 1, P99: 2, P999: 3},
		Services: []Service{{
			Name: "order", Scaled: true, Offered: calls, Capacity: calls, Pressure: steps(0, 1), Calls: calls, Attempts: calls,
			Ready: steps(0, 2), Running: steps(0, 2), CapacityOfOne: 10, Visits: map[string]float64{"buy": 1},
			Replicas: []Replica{{To: 100, Calls: calls}, {To: 100, Calls: calls}},
		}},
		UnderFault: []Sent{{Caller: "gateway", Callee: "order", Calls: 10, Attempts: 11}},
		Nodes:      steps(0, 1), Faults: []Window{{50, 60, "pause order"}},
		Lost: new(int64), Doubles: new(int64), SessionsLost: new(int64), QuotaBreaches: new(int64),
	}
}

func TestEveryKeyIsMeasuredAndEveryMeasureIsAKey(t *testing.T) {
	measured := make(map[string]bool)
	for measure := range Measures(full()) {
		key, ok := Lookup(measure)
		if !ok {
			t.Errorf("%s is measured and is no key", measure)
		}
		measured[key.String()] = true
	}
	for _, k := range Keys() {
		if !measured[k.String()] {
			t.Errorf("%s is a key and is not measured", k)
		}
	}
	for _, promised := range strings.Fields(wanted) {
		if !slices.ContainsFunc(Keys(), func(k Key) bool { return k.String() == promised }) {
			t.Errorf("%s is promised and is no key", promised)
		}
	}
}

func TestLookup(t *testing.T) {
	for measure, want := range map[string]string{
		"p99_ms": "p99_ms", "goodput_ratio": "goodput_ratio", "goodput_ratio.critical": "goodput_ratio.PRIORITY",
		"peak_pressure.order": "peak_pressure.SERVICE", "theta_u.order": "theta_u.SERVICE",
		"peak_pressure": "", "p99_ms.order": "", "peak_pressure.": "", "p98_ms": "", "": "",
	} {
		key, ok := Lookup(measure)
		if ok != (want != "") || ok && key.String() != want {
			t.Errorf("%q: got %q (there: %v), want %q", measure, key, ok, want)
		}
	}
}

// heading is how docs/measures.md begins the paragraph of a measure.
var heading = regexp.MustCompile("(?m)^\\*\\*`([^`]+)`\\*\\* \\(([^)]+)\\)")

func TestEveryKeyIsDocumentedWithItsUnit(t *testing.T) {
	text, err := os.ReadFile("../../docs/measures.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = m[2]
	}
	for _, k := range Keys() {
		unit, ok := documented[k.String()]
		delete(documented, k.String())
		switch want := k.Unit; {
		case !ok:
			t.Errorf("docs/measures.md has no paragraph that begins with **`%s`** (unit)", k)
		case want == "" && unit != "ratio", want != "" && unit != want:
			t.Errorf("docs/measures.md gives %s the unit %q, the code %q", k, unit, want)
		}
	}
	for key := range documented {
		t.Errorf("docs/measures.md explains %s, which is not measured", key)
	}
}

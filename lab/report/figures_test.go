package report

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"spillway.dev/lab/measure"
	"spillway.dev/lab/trace"
)

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{{0, "0"}, {1, "1"}, {1.0 / 3, "0.333"}, {12.345, "12.3"}, {99.96, "100"}, {1234.5, "1,234"}, {1234567, "1,234,567"}, {-0.5, "−0.500"},
		{-12345, "−12,345"}, {0.00012, "0.00012"}, {math.NaN(), none}, {math.Inf(1), none}} {
		if got := number(c.v); got != c.want {
			t.Errorf("number(%v) is %s, want %s", c.v, got, c.want)
		}
	}
	for _, c := range []struct {
		s    float64
		want string
	}{{0, "0 s"}, {59.6, "1 min"}, {90, "1 min 30 s"}, {3600, "1 h"}, {5400, "1 h 30 min"}, {-5, "−5 s"}} {
		if got := clock(c.s); got != c.want {
			t.Errorf("clock(%v) is %s, want %s", c.s, got, c.want)
		}
	}
	if got := letter(0) + letter(25) + letter(26) + letter(53); got != "AZA2B3" {
		t.Errorf("letters are %s", got)
	}
}

func TestCeiling(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 0.9: 1, 1: 1, 1.01: 1.5, 27: 30, 61: 80, 99: 100, 101: 150, 0.012: 0.015, -3: 1} {
		if got := ceiling(v); math.Abs(got-want) > 1e-12 {
			t.Errorf("ceiling(%v) is %v, want %v", v, got, want)
		}
	}
}

func TestSeries(t *testing.T) {
	s := measure.Series{{T: 0, V: 0.5}, {T: 10, V: 2}, {T: 20, V: math.NaN()}, {T: 30, V: 1.5}, {T: 40, V: 0.2}}
	for at, want := range map[float64]float64{0: 0.5, 9.9: 0.5, 10: 2, 35: 1.5, 100: 0.2} {
		if got := valueAt(s, at); got != want {
			t.Errorf("at %v it is %v, want %v", at, got, want)
		}
	}
	if !math.IsNaN(valueAt(s, -1)) || !math.IsNaN(valueAt(nil, 1)) {
		t.Error("there is a value before the first point")
	}
	if v, at := peak(s); v != 2 || at != 10 {
		t.Errorf("the peak is %v at %v", v, at)
	}
	if got := above(s, 1, 50); got != 20 {
		t.Errorf("above 1 for %v, want 20", got)
	}
	if got := highestIn(s, 12, 31); got != 2 {
		t.Errorf("highest is %v, want the 2 that still holds at 12", got)
	}
	if v, ok := mean(measure.Series{{T: 0, V: 1}, {T: 10, V: 4}}, 5, 20); !ok || v != 3 {
		t.Errorf("the mean is %v, want (5×1 + 10×4) ÷ 15 = 3", v)
	}
	if _, ok := mean(nil, 0, 1); ok {
		t.Error("nothing has a mean")
	}
}

// However long a run was, its peak is drawn.
func TestThinnedKeepsPeaks(t *testing.T) {
	var s measure.Series
	for i := range 10_000 {
		s = append(s, measure.Point{T: float64(i), V: math.Sin(float64(i) / 500)})
	}
	s[7777].V, s[2345].V = 9, -9
	got := thinned(s)
	if len(got) > maxPoints || len(got) < maxPoints/2 {
		t.Errorf("%d points", len(got))
	}
	if !slices.Contains(got, s[7777]) || !slices.Contains(got, s[2345]) {
		t.Error("a peak is gone")
	}
	if !slices.IsSortedFunc(got, func(a, b measure.Point) int { return int(a.T - b.T) }) {
		t.Error("the points are out of order")
	}
}

func TestLinePath(t *testing.T) {
	s := measure.Series{{T: 0, V: 0}, {T: 10, V: 5}, {T: 20, V: math.NaN()}, {T: 30, V: 10}}
	if got, want := linePath(s, 10, false, 40), "M0,100L10,50M30,0"; got != want {
		t.Errorf("line %s, want %s", got, want)
	}
	if got, want := linePath(s, 10, true, 40), "M0,100L10,100L10,50M30,0L40,0"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
}

// Where nothing was answered there is no latency: a gap, also at the end.
func TestGapsLeaveTheScaleAlone(t *testing.T) {
	p := plot{id: "x", title: "x", desc: "x", span: 40, tall: 100, lines: []line{{variant: 0, label: "A",
		series: measure.Series{{T: 0, V: 700}, {T: 10, V: math.NaN()}, {T: 20, V: 400}, {T: 30, V: math.NaN()}}}}}
	text := string(p.svg())
	if strings.Contains(text, "NaN") || !strings.Contains(text, `data-top="800"`) || !strings.Contains(text, `d="M0,12.5M20,50"`) {
		t.Error(text)
	}
}

func TestDifferences(t *testing.T) {
	m := func(median, low, high float64) measure.Summary {
		return measure.Summary{Median: median, Low: low, High: high}
	}
	columns := []column{{Letter: "A"}, {Letter: "B"}}
	all := func(string) bool { return true }
	table := compare(columns, []map[string]measure.Summary{
		{"p99_ms": m(1000, 990, 1010), "goodput_ratio": m(0.5, 0.45, 0.55), "scaling_actions": m(4, 3, 5), "offered_per_s": m(100, 99, 101)},
		{"p99_ms": m(800, 790, 810), "goodput_ratio": m(0.56, 0.5, 0.6), "scaling_actions": m(20, 18, 22)},
	}, all)
	got := map[string]cell{}
	for _, g := range table.Groups {
		for _, r := range g.Rows {
			got[r.Label] = r.Cells[1]
		}
	}
	for label, want := range map[string]cell{
		"Latency, 99th percentile":     {Value: "800", Interval: "790 to 810", Change: "−200", Between: "−220 to −180", Verdict: "better"},
		"Goodput, of what was offered": {Value: "56.0 %", Interval: "50.0 % to 60.0 %", Change: "+6.0 points", Between: "−5.0 to +15.0"},
		"Scaling actions":              {Value: "20", Interval: "18 to 22", Change: "+16", Between: "+13 to +19"},
		"Offered load":                 {Value: none},
	} {
		if got[label] != want {
			t.Errorf("%s is %+v, want %+v", label, got[label], want)
		}
	}
	// One that ran once gets no verdict, however different it is.
	once := compare(columns, []map[string]measure.Summary{{"p99_ms": m(1000, 990, 1010)}, {"p99_ms": m(1, 1, 1)}}, all)
	if c := once.Groups[0].Rows[0].Cells[1]; c.Verdict != "" || c.Between != "" || c.Change != "−999" {
		t.Errorf("a single run is judged: %+v", c)
	}
}

// Every measure has a label, a group and a unit that a table can show.
func TestEveryMeasureIsKnown(t *testing.T) {
	for _, k := range measure.Keys() {
		key := strings.ReplaceAll(strings.ReplaceAll(k.String(), "SERVICE", "order"), "PRIORITY", "critical")
		if meaningOf(key).label == key {
			t.Errorf("%s has no label", key)
		}
		if !slices.ContainsFunc(groups, func(g struct {
			name  string
			names []string
		}) bool {
			return slices.Contains(g.names, k.Name)
		}) {
			t.Errorf("%s is in no group", key)
		}
	}
	odd := measured([]map[string]measure.Summary{{"new_thing": {}}}, func(string) bool { return true })
	if len(odd) != 1 || odd[0].keys[0] != "new_thing" {
		t.Errorf("an unknown measure is lost: %v", odd)
	}
}

func TestAnswer(t *testing.T) {
	r := &Result{Variants: []Variant{
		{Name: "abrupt", Measures: map[string]measure.Summary{"lost_requests": {Median: 312}, "goodput_ratio": {Median: 0.98}, "p99_ms": {Median: 210}}},
		{Name: "drain", Measures: map[string]measure.Summary{"lost_requests": {Median: 0}, "goodput_ratio": {Median: 1}}},
	}}
	for _, c := range []struct{ measure, want string }{
		{"", "Answered rightly and in time: 98.0 % with “abrupt” and 100 % with “drain”."},
		{"lost_requests", "Requests lost: 312 with “abrupt” and 0 with “drain”."},
		{"p99_ms", "Answered rightly and in time: 98.0 % with “abrupt” and 100 % with “drain”."}, // not every variant has it
	} {
		r.Expectations = []Expectation{{Measure: c.measure}}
		if got := Answer(r); got != c.want {
			t.Errorf("with %q: %s, want %s", c.measure, got, c.want)
		}
	}
}

func TestBargains(t *testing.T) {
	v := func(name string, cost, good float64) Variant {
		return Variant{Name: name, Measures: map[string]measure.Summary{
			"node_seconds": {Median: cost, Low: cost, High: cost}, "goodput_ratio": {Median: good, Low: good, High: good}}}
	}
	list := bargains([]Variant{v("70", 100, 0.9), v("50", 150, 0.99), v("85", 60, 0.6), v("dear", 160, 0.95), v("twin", 100, 0.9), {Name: "none"}}, "node_seconds")
	var names []int
	var best []int
	for _, b := range list {
		names = append(names, b.variant)
		if b.best {
			best = append(best, b.variant)
		}
	}
	if !slices.Equal(names, []int{2, 0, 4, 1, 3}) {
		t.Errorf("by cost: %v", names)
	}
	if !slices.Equal(best, []int{2, 0, 4, 1}) {
		t.Errorf("beaten by none: %v, want all but the dear one", best)
	}
	if _, ok := tradeoff([]Variant{v("one", 1, 1)}, "node_seconds"); ok {
		t.Error("one variant is no choice")
	}
}

func TestLayers(t *testing.T) {
	edges := [][2]string{{"gateway", "catalog"}, {"gateway", "order"}, {"order", "inventory"}, {"catalog", "inventory"}, {"gateway", "ticketing"},
		{"order", "ticketing"}, {"inventory", "order"}, {"a", "b"}, {"b", "a"}}
	l := layered(edges, []string{"a", "alone", "b", "catalog", "gateway", "inventory", "order", "ticketing"})
	at := map[string]int{}
	for i, layer := range l.layers {
		for j, v := range layer {
			if v.name != "" {
				at[v.name] = i
			}
			if j > 0 && v.x-layer[j-1].x < (v.wide()+layer[j-1].wide())/2 {
				t.Errorf("%q lies on %q", v.name, layer[j-1].name)
			}
		}
	}
	if len(at) != 8 {
		t.Errorf("placed %v", at)
	}
	for e, route := range l.routes {
		if at[e[0]] >= at[e[1]] {
			t.Errorf("%v runs up", e)
		}
		if len(route) != at[e[1]]-at[e[0]]+1 {
			t.Errorf("%v passes %d layers of %d", e, len(route), at[e[1]]-at[e[0]]+1)
		}
	}
	if at["gateway"] != 0 || at["alone"] != 0 {
		t.Errorf("nobody calls gateway and alone, yet they are in layers %d and %d", at["gateway"], at["alone"])
	}
	names := l.names()
	if slices.Index(names, "gateway") > slices.Index(names, "order") {
		t.Error("a caller comes after the called")
	}
}

func TestFaultsOfAllVariantsAreOneBand(t *testing.T) {
	w := func(from, to float64, text string) measure.Window {
		return measure.Window{From: from, To: to, Text: text}
	}
	d := newDrawn([]Variant{
		{Name: "a", Recording: &measure.Recording{Duration: 100, Faults: []measure.Window{w(10.02, 20, "kill"), w(50, 60, "only here")}}},
		{Name: "b", Recording: &measure.Recording{Duration: 100, Faults: []measure.Window{w(9.98, 20.1, "kill")}}},
		{Name: "not recorded"},
	})
	want := []band{{variant: -1, from: 10, to: 20, text: "kill"}, {variant: 0, from: 50, to: 60, text: "only here"}}
	if !slices.Equal(d.bands, want) {
		t.Errorf("bands %+v, want %+v", d.bands, want)
	}
}

func TestTraceOf(t *testing.T) {
	start := time.Unix(100, 0)
	node := func(service, name string, from, to int, children ...*trace.Node) *trace.Node {
		at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
		return &trace.Node{Service: service, Name: name, Start: at(from), End: at(to), Children: children, Kind: tracepb.Span_SPAN_KIND_SERVER}
	}
	tree := &trace.Tree{ID: "ab", Start: start, End: start.Add(90 * time.Millisecond), Roots: []*trace.Node{
		node("gateway", "buy", 0, 90, node("order", "checkout", 5, 80, node("payment", "charge", 20, 70)), node("session", "touch", 82, 85))}}
	got := TraceOf(tree, 12, "buy")
	if got.Millis != 90 || got.At != 12 || got.Journey != "buy" || got.ID != "ab" {
		t.Errorf("%+v", got)
	}
	var depths []int
	for _, s := range got.Spans {
		depths = append(depths, s.Depth)
	}
	if !slices.Equal(depths, []int{0, 1, 2, 1}) {
		t.Errorf("depths %v", depths)
	}
	if s := got.Spans[2]; s.Service != "payment" || s.Start != 20 || s.Millis != 50 {
		t.Errorf("the payment's span is %+v", s)
	}
	long := &trace.Tree{}
	for range 500 {
		long.Roots = append(long.Roots, node("x", "y", 0, 1))
	}
	if n := len(TraceOf(long, 0, "").Spans); n != maxSpans {
		t.Errorf("%d spans are kept", n)
	}
}

package knobs_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/knobs"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// replica is one knob of each kind.
type replica struct {
	set     *knobs.Set
	slow    *knobs.Bool
	quota   *knobs.Int
	factor  *knobs.Float
	delay   *knobs.Duration
	order   *knobs.Choice
	unbound *knobs.Int
	changes []string // what OnChange told
}

func newReplica() *replica {
	set := knobs.NewSet()
	r := &replica{
		set:     set,
		slow:    set.Bool("slow", false, "be slow"),
		quota:   set.Int("bank.quota_per_second", 50, 1, 10_000, "charges a second"),
		factor:  set.Float("capacity.slowdown", 1, 0.1, math.Inf(1), "times the service time"),
		delay:   set.Duration("start.delay", 0, 0, time.Minute, "until it serves"),
		order:   set.Choice("queue.order", "fifo", []string{"fifo", "lifo"}, "who is next"),
		unbound: set.Int("offset", 0, math.MinInt64, math.MaxInt64, "anything"),
	}
	r.factor.OnChange(func(v float64) { r.changes = append(r.changes, fmt.Sprint("factor ", v, r.quota.Get())) })
	r.quota.OnChange(func(v int64) { r.changes = append(r.changes, fmt.Sprint("quota ", v)) })
	r.quota.OnChange(func(v int64) { r.changes = append(r.changes, fmt.Sprint("again ", v)) })
	return r
}

func (r *replica) values() string {
	return strings.TrimSpace(fmt.Sprintln(r.slow.Get(), r.quota.Get(), r.factor.Get(), r.delay.Get(), r.order.Get(), r.unbound.Get()))
}

func TestApply(t *testing.T) {
	r := newReplica()
	const defaults = "false 50 1 0s fifo 0"
	if got := r.values(); got != defaults {
		t.Fatalf("before the first values: %s, want %s", got, defaults)
	}
	apply := func(values map[string]string, want string) {
		t.Helper()
		if err := r.set.Apply(values); err != nil {
			t.Errorf("%v: %v", values, err)
		}
		if got := r.values(); got != want {
			t.Errorf("%v: got %s, want %s", values, got, want)
		}
	}
	apply(map[string]string{
		"slow": "true", "bank.quota_per_second": "7", "capacity.slowdown": "2.5", "start.delay": "1.5s", "queue.order": "lifo", "offset": "-3",
	}, "true 7 2.5 1.5s lifo -3")
	// All values are in force before anyone is told; a knob's functions are called in order.
	if want := []string{"quota 7", "again 7", "factor 2.5 7"}; !slices.Equal(r.changes, want) {
		t.Errorf("told %q, want %q", r.changes, want)
	}
	r.changes = nil
	apply(map[string]string{"bank.quota_per_second": "7", "capacity.slowdown": "3"}, "false 7 3 0s fifo 0")
	if want := []string{"factor 3 7"}; !slices.Equal(r.changes, want) {
		t.Errorf("told %q, want what changed only: %q", r.changes, want)
	}
	apply(nil, defaults)
}

func TestBadValuesLeaveTheOthersApplied(t *testing.T) {
	r := newReplica()
	if err := r.set.Apply(map[string]string{"bank.quota_per_second": "7"}); err != nil {
		t.Fatal(err)
	}
	err := r.set.Apply(map[string]string{"bank.quota_per_second": "0", "capacity.slowdown": "2", "no.such": "1"})
	const want = `knob bank.quota_per_second: value "0" is not allowed, give a whole number, 1 to 10000; it stays 7
knob no.such is not known, known are: bank.quota_per_second, capacity.slowdown, offset, queue.order, slow, start.delay`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if got := r.values(); got != "false 7 2 0s fifo 0" {
		t.Errorf("values are %s", got)
	}
}

func TestCheck(t *testing.T) {
	declared := map[string]*knobv1.Knob{}
	for _, knob := range newReplica().set.Declared() {
		declared[knob.GetName()] = knob
	}
	for name, try := range map[string]struct{ good, bad []string }{
		"slow":                  {[]string{"true", "false"}, []string{"", "1", "TRUE", "yes"}},
		"bank.quota_per_second": {[]string{"1", "10000"}, []string{"", "0", "10001", "1.0", "0x10", "1e3", "1_000"}},
		"capacity.slowdown":     {[]string{"0.1", "1e3", "7", ".5"}, []string{"", "0.09", "-1", "NaN", "Inf", "0x1p4", "1e999", "1_0", "."}},
		"start.delay":           {[]string{"0s", "0", "250ms", "1m"}, []string{"", "-1s", "61s", "5", "1h", "soon"}},
		"queue.order":           {[]string{"fifo", "lifo"}, []string{"", "FIFO", "random"}},
		"offset":                {[]string{"-9223372036854775808", "9223372036854775807"}, []string{"9223372036854775808", "a"}},
	} {
		for _, value := range try.good {
			if err := knobs.Check(declared[name], value); err != nil {
				t.Errorf("%v", err)
			}
		}
		for _, value := range try.bad {
			err := knobs.Check(declared[name], value)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("knob %s: value %q is not allowed, give ", name, value)) {
				t.Errorf("%s=%q: got %v, want an error that names both", name, value, err)
			}
		}
	}
	// What a later version of the mesh declares cannot be checked here.
	if err := knobs.Check(&knobv1.Knob{Name: "new", Type: 99}, "1"); err == nil || !strings.Contains(err.Error(), "knob new: its type 99 is not known") {
		t.Errorf("got %v", err)
	}
	if err := knobs.Check(&knobv1.Knob{Name: "odd", Type: knobv1.KnobType_KNOB_TYPE_INT, Minimum: "one"}, "1"); err == nil || !strings.Contains(err.Error(), `its bound "one"`) {
		t.Errorf("got %v", err)
	}
}

func TestDeclared(t *testing.T) {
	set := knobs.NewSet()
	set.Float("capacity.slowdown", 1, 0.1, math.Inf(1), "times the service time")
	// The environment may give more than the bounds, which then give way.
	set.Duration("start.delay", 2*time.Minute, 0, time.Minute, "until it serves")
	set.Choice("queue.order", "fifo", []string{"fifo", "lifo"}, "who is next")
	want := []*knobv1.Knob{
		{Name: "capacity.slowdown", Type: knobv1.KnobType_KNOB_TYPE_FLOAT, Default: "1", Minimum: "0.1", Help: "times the service time"},
		{Name: "start.delay", Type: knobv1.KnobType_KNOB_TYPE_DURATION, Default: "2m0s", Minimum: "0s", Maximum: "2m0s", Help: "until it serves"},
		{Name: "queue.order", Type: knobv1.KnobType_KNOB_TYPE_CHOICE, Default: "fifo", Choices: []string{"fifo", "lifo"}, Help: "who is next"},
	}
	got := set.Declared()
	if !slices.EqualFunc(got, want, func(a, b *knobv1.Knob) bool { return proto.Equal(a, b) }) {
		t.Errorf("declared %v, want %v", got, want)
	}
	for _, knob := range got {
		if err := knobs.Check(knob, knob.GetDefault()); err != nil {
			t.Errorf("its default is not allowed: %v", err)
		}
	}
}

func TestMistakesPanic(t *testing.T) {
	for want, declare := range map[string]func(*knobs.Set){
		"knob a is declared twice":                  func(s *knobs.Set) { s.Bool("a", true, ""); s.Bool("a", true, "") },
		`name "Slow" is not allowed`:                func(s *knobs.Set) { s.Bool("Slow", true, "") },
		`name "a..b" is not allowed`:                func(s *knobs.Set) { s.Bool("a..b", true, "") },
		`name "_a" is not allowed`:                  func(s *knobs.Set) { s.Bool("_a", true, "") },
		`name "" is not allowed`:                    func(s *knobs.Set) { s.Bool("", true, "") },
		"bounds 2 to 1 are in the wrong order":      func(s *knobs.Set) { s.Int("a", 1, 2, 1, "") },
		"bounds NaN to 1 are in the wrong order":    func(s *knobs.Set) { s.Float("a", 1, math.NaN(), 1, "") },
		"default NaN is not a number":               func(s *knobs.Set) { s.Float("a", math.NaN(), 0, 1, "") },
		`default "c" is none of its choices ["b"]`:  func(s *knobs.Set) { s.Choice("a", "c", []string{"b"}, "") },
		"default +Inf is not a number that can be ": func(s *knobs.Set) { s.Float("a", math.Inf(1), 0, 1, "") },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("got %s, want %s", got, want)
				}
			}()
			declare(knobs.NewSet())
		}()
	}
}

func TestMetric(t *testing.T) {
	r := newReplica()
	if err := r.set.Apply(map[string]string{"slow": "true", "start.delay": "250ms", "queue.order": "lifo", "bank.quota_per_second": "7"}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.set)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			got = append(got, fmt.Sprint(family.GetName(), " ", m.GetLabel()[0].GetValue(), " ", m.GetGauge().GetValue()))
		}
	}
	want := []string{
		"spillway_knob_value bank.quota_per_second 7", "spillway_knob_value capacity.slowdown 1", "spillway_knob_value offset 0",
		"spillway_knob_value queue.order 1", "spillway_knob_value slow 1", "spillway_knob_value start.delay 0.25",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzApply: whatever the control plane sends, every knob has a value that Check allows, knobs that it does not name
// have their defaults, and an error comes exactly when something was wrong.
func FuzzApply(f *testing.F) {
	for _, seed := range [][2]string{
		{"slow", "true"}, {"bank.quota_per_second", "10001"}, {"capacity.slowdown", "1e-300"}, {"capacity.slowdown", "-0"},
		{"start.delay", "1m"}, {"queue.order", "lifo"}, {"offset", "-9223372036854775808"}, {"no.such", "1"}, {"", ""},
		{"start.delay", "9223372036854775807ns"}, {"capacity.slowdown", "\xff"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		r := newReplica()
		err := r.set.Apply(map[string]string{name: value})
		known, allowed := false, false
		for _, knob := range r.set.Declared() {
			if knob.GetName() == name {
				known, allowed = true, knobs.Check(knob, value) == nil
			}
		}
		if (err == nil) != (known && allowed) {
			t.Errorf("%q=%q: known %v, allowed %v, but the error is %v", name, value, known, allowed, err)
		}
		now := map[string]string{
			"slow": fmt.Sprint(r.slow.Get()), "bank.quota_per_second": fmt.Sprint(r.quota.Get()), "capacity.slowdown": fmt.Sprint(r.factor.Get()),
			"start.delay": r.delay.Get().String(), "queue.order": r.order.Get(), "offset": fmt.Sprint(r.unbound.Get()),
		}
		for _, knob := range r.set.Declared() {
			if err := knobs.Check(knob, now[knob.GetName()]); err != nil {
				t.Errorf("%q=%q: a value in force is not allowed: %v", name, value, err)
			}
			if (knob.GetName() != name || !allowed) && now[knob.GetName()] != knob.GetDefault() {
				t.Errorf("%q=%q: knob %s is %s, want its default", name, value, knob.GetName(), now[knob.GetName()])
			}
		}
		// Applied again it changes nothing, and taking it away brings the default back.
		r.changes = nil
		if again := r.set.Apply(map[string]string{name: value}); (again == nil) != (err == nil) || len(r.changes) > 0 {
			t.Errorf("%q=%q: the second time %v, %q were told", name, value, again, r.changes)
		}
		if err := r.set.Apply(nil); err != nil || r.values() != newReplica().values() {
			t.Errorf("%q=%q: taken away, values are %s, %v", name, value, r.values(), err)
		}
	})
}

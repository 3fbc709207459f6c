package scenario

import (
	"strings"
	"testing"

	"spillway.dev/lab/measure"
)

// value is a summary of repeats that all gave the same.
func value(v float64) measure.Summary { return measure.Summary{Median: v, Low: v, High: v} }

// ran is what came of three variants.
var ran = map[string]map[string]measure.Summary{
	"fixed": {
		"goodput_ratio": value(0.5), "p99_ms": value(900), "scaling_actions": value(0), "overload_seconds": value(0),
		"peak_pressure.inventory": value(1.5), "offered_per_s": value(80),
	},
	"callers": {
		"goodput_ratio": {Median: 0.756, Low: 0.7, High: 0.81}, "p99_ms": value(450), "scaling_actions": value(12),
		"overload_seconds": value(0), "peak_pressure.inventory": value(2.25), "offered_per_s": value(81.6),
	},
	"broken": {},
}

func TestExpectationsAreChecked(t *testing.T) {
	for _, c := range []struct {
		e    Expectation
		ok   bool
		text string
	}{
		{Expectation{Measure: "goodput_ratio", Variant: "callers", AtLeast: new(0.75)}, true,
			"goodput_ratio of callers: expected at least 75 %, found 75.6 % (70 % to 81 %)"},
		{Expectation{Measure: "goodput_ratio", Variant: "fixed", AtLeast: new(0.75)}, false,
			"goodput_ratio of fixed: expected at least 75 %, found 50 %"},
		{Expectation{Measure: "p99_ms", Variant: "fixed", AtMost: new(900.0)}, true,
			"p99_ms of fixed: expected at most 900 ms, found 900 ms"},
		{Expectation{Measure: "p99_ms", Variant: "fixed", AtLeast: new(100.0), AtMost: new(800.0)}, false,
			"p99_ms of fixed: expected 100 ms to 800 ms, found 900 ms"},
		{Expectation{Measure: "p99_ms", Variant: "callers", AtLeast: new(451.0), AtMost: new(800.0)}, false,
			"p99_ms of callers: expected 451 ms to 800 ms, found 450 ms"},
		// 80 ± 10 %: 72 to 88.
		{Expectation{Measure: "offered_per_s", Variant: "callers", About: new(80.0)}, true,
			"offered_per_s of callers: expected about 80/s (within 10 %), found 81.6/s"},
		{Expectation{Measure: "offered_per_s", Variant: "callers", About: new(80.0), Within: new(0.01)}, false,
			"offered_per_s of callers: expected about 80/s (within 1 %), found 81.6/s"},
		{Expectation{Measure: "peak_pressure.inventory", Variant: "callers", Over: "fixed", AtLeast: new(1.5)}, true,
			"peak_pressure.inventory of callers over fixed: expected at least 1.5, found 1.5 (2.25 over 1.5)"},
		{Expectation{Measure: "p99_ms", Variant: "callers", Over: "fixed", AtMost: new(0.4)}, false,
			"p99_ms of callers over fixed: expected at most 0.4, found 0.5 (450 ms over 900 ms)"},
		// Something against nothing is more than any bound, nothing against
		// nothing is alike.
		{Expectation{Measure: "scaling_actions", Variant: "callers", Over: "fixed", AtMost: new(5.0)}, false,
			"scaling_actions of callers over fixed: expected at most 5, found infinite (12 actions over 0 actions)"},
		{Expectation{Measure: "scaling_actions", Variant: "callers", Over: "fixed", AtLeast: new(5.0)}, true,
			"scaling_actions of callers over fixed: expected at least 5, found infinite (12 actions over 0 actions)"},
		{Expectation{Measure: "overload_seconds", Variant: "callers", Over: "fixed", AtMost: new(0.5)}, false,
			"overload_seconds of callers over fixed: expected at most 0.5, found 1 (0 s over 0 s)"},
		{Expectation{Measure: "p99_ms", Variant: "broken", AtMost: new(1.0)}, false,
			"p99_ms of broken: expected at most 1 ms, but p99_ms was not measured for broken"},
		{Expectation{Measure: "p99_ms", Variant: "fixed", Over: "broken", AtMost: new(1.0)}, false,
			"p99_ms of fixed over broken: expected at most 1, but p99_ms was not measured for broken"},
		{Expectation{Measure: "p99_ms", Variant: "absent", AtMost: new(1.0)}, false,
			"p99_ms of absent: expected at most 1 ms, but absent did not run"},
		// Of every variant.
		{Expectation{Measure: "offered_per_s", AtLeast: new(70.0)}, false,
			"offered_per_s of broken: expected at least 70/s, but offered_per_s was not measured for broken; " +
				"offered_per_s of callers: expected at least 70/s, found 81.6/s; offered_per_s of fixed: expected at least 70/s, found 80/s"},
		{Expectation{Measure: "p99_ms", Variant: "fixed"}, false, "p99_ms of fixed: expected nothing, found 900 ms"},
	} {
		ok, text := c.e.Check(ran)
		if ok != c.ok || text != c.text {
			t.Errorf("got  %v, %s\nwant %v, %s", ok, text, c.ok, c.text)
		}
	}
	if ok, _ := (Expectation{Measure: "p99_ms", AtMost: new(1000.0)}).Check(nil); ok {
		t.Error("nothing ran and the rule held")
	}
	whole := map[string]map[string]measure.Summary{"fixed": ran["fixed"], "callers": ran["callers"]}
	if ok, text := (Expectation{Measure: "p99_ms", AtMost: new(1000.0)}).Check(whole); !ok {
		t.Errorf("holds for both variants, but: %s", text)
	}
}

func TestWhetherAnExpectationIsJudged(t *testing.T) {
	some := map[string]map[string]measure.Summary{"fixed": ran["fixed"]}
	for _, c := range []struct {
		e    Expectation
		want bool
	}{
		{Expectation{}, true},
		{Expectation{Variant: "fixed"}, true},
		{Expectation{Variant: "callers"}, false},
		{Expectation{Variant: "fixed", Over: "callers"}, false},
	} {
		if got := c.e.Judged(some); got != c.want {
			t.Errorf("%+v: got %v", c.e, got)
		}
	}
	if (Expectation{}).Judged(nil) {
		t.Error("nothing ran")
	}
}

func TestTheAnswerIsFilled(t *testing.T) {
	variants := []string{"fixed", "callers", "broken"}
	for template, want := range map[string]string{
		"":            "",
		"Just words.": "Just words.",
		"{callers.goodput_ratio} instead of\n  {fixed.goodput_ratio}, {callers.p99_ms / fixed.p99_ms} of the time, after {callers.scaling_actions}.": "75.6 % instead of 50 %, 0.5 of the time, after 12 actions.",
		"{ callers.peak_pressure.inventory }{fixed.offered_per_s}":                                                                                   "2.2580/s",
	} {
		answer, err := ParseAnswer(template, variants)
		if err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		got, err := answer.Fill(ran)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", template, got, err, want)
		}
	}
	answer, err := ParseAnswer("Half {fixed.p99_ms} and {fixed.p99_ms / broken.p99_ms}.", variants)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := answer.Fill(ran); err == nil || got != "" || !strings.Contains(err.Error(), "p99_ms was not measured for broken") {
		t.Errorf("a measure that is not there: got %q, %v", got, err)
	}
	for template, want := range map[string]string{
		"{fixed.p99_ms":                    "a { has no } after it",
		"fixed.p99_ms}":                    "a } has no { before it",
		"{fixed}":                          "{fixed} is no place",
		"{fxied.p99_ms}":                   `did you mean "fixed"?`,
		"{fixed.p9_ms}":                    `did you mean "p99_ms"?`,
		"{fixed.p99_ms / broken}":          "{ broken} is no place",
		"{fixed.p99_ms / fixed.p99_ms / }": "not known",
	} {
		if _, err := ParseAnswer(template, variants); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", template, err, want)
		}
	}
}

func TestNumbersAreShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.1234: "0.123", 1.5: "1.5", 99.96: "100", 123.6: "124", 123456.7: "123457", 0.00005: "5e-05"} {
		if got := plain(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

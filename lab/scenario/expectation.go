package scenario

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"spillway.dev/lab/measure"
	"spillway.dev/lab/scenario/strict"
)

// Expectation is a rule on a measure of a variant, or on how two variants
// compare.
type Expectation struct {
	// Measure is the key that is judged.
	Measure string `yaml:"measure"`
	// Variant is whose measure it is. Every variant's when empty.
	Variant string `yaml:"variant"`
	// Over is another variant. What is judged is then the quotient: the
	// variant's measure ÷ this one's. A quotient of 0 and 0 is 1.
	Over string `yaml:"over"`
	// AtLeast, AtMost and About are what the median is held against. About may
	// be missed by Within, a part of it; nil means a tenth.
	AtLeast *float64 `yaml:"at-least"`
	AtMost  *float64 `yaml:"at-most"`
	About   *float64 `yaml:"about"`
	Within  *float64 `yaml:"within"`
	// Says is why it is expected, for the report.
	Says string `yaml:"says"`
}

// aTenth is how far About may be missed when the file does not say.
const aTenth = 0.1

// Validate tells everything that makes no sense, given the names of the
// variants.
func (e Expectation) Validate(variants []string) error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e.Measure == "" {
		refuse("`measure` is missing: which one is judged")
	} else if err := knownMeasure(e.Measure); err != nil {
		errs = append(errs, err)
	}
	for key, v := range map[string]string{"variant": e.Variant, "over": e.Over} {
		if v != "" && !slices.Contains(variants, v) {
			refuse("%s", strict.Unknown(key+" is no variant:", v, variants))
		}
	}
	if e.Over != "" && (e.Variant == "" || e.Variant == e.Over) {
		refuse("over needs `variant`, and another one: what is judged is the quotient of the two")
	}
	switch {
	case e.AtLeast == nil && e.AtMost == nil && e.About == nil:
		refuse("nothing is expected; give `at-least`, `at-most`, both, or `about`")
	case e.About != nil && (e.AtLeast != nil || e.AtMost != nil):
		refuse("about stands alone; with `at-least` and `at-most` leave it out")
	case e.AtLeast != nil && e.AtMost != nil && *e.AtLeast > *e.AtMost:
		refuse("at-least is %v, above at-most, which is %v: nothing is both", *e.AtLeast, *e.AtMost)
	case e.Within != nil && (e.About == nil || *e.Within < 0):
		refuse("within belongs to `about` and is a part of it, such as 0.1")
	}
	return errors.Join(errs...)
}

// Judged tells whether the variants that it is about are among those that ran.
func (e Expectation) Judged(variants map[string]map[string]measure.Summary) bool {
	for _, name := range []string{e.Variant, e.Over} {
		if _, ran := variants[name]; !ran && name != "" {
			return false
		}
	}
	return len(variants) > 0
}

// Check holds the rule against the measures of the variants that ran, by their
// names. The text says what was expected and what was found. A variant that did
// not run and a measure that was not taken do not meet anything; ask Judged
// first to pass over what was not meant to run.
func (e Expectation) Check(variants map[string]map[string]measure.Summary) (ok bool, text string) {
	if e.Variant != "" {
		return e.check(variants, e.Variant)
	}
	var texts []string
	ok = len(variants) > 0
	for _, name := range sortedKeys(variants) {
		holds, found := e.check(variants, name)
		ok = ok && holds
		texts = append(texts, found)
	}
	return ok, strings.Join(texts, "; ")
}

func (e Expectation) check(variants map[string]map[string]measure.Summary, name string) (bool, string) {
	subject := e.Measure + " of " + name
	if e.Over != "" {
		subject += " over " + e.Over
	}
	expected := subject + ": expected " + e.bound()
	value, err := find(variants, name, e.Measure)
	if err != nil {
		return false, expected + ", but " + err.Error()
	}
	median, found := value.Median, show(e.Measure, value.Median)+interval(e.Measure, value)
	if e.Over != "" {
		other, err := find(variants, e.Over, e.Measure)
		if err != nil {
			return false, expected + ", but " + err.Error()
		}
		median = quotient(value.Median, other.Median)
		found = fmt.Sprintf("%s (%s over %s)", plain(median), show(e.Measure, value.Median), show(e.Measure, other.Median))
	}
	return e.holds(median), expected + ", found " + found
}

func (e Expectation) holds(v float64) bool {
	switch {
	case math.IsNaN(v):
		return false
	case e.AtLeast != nil && v < *e.AtLeast, e.AtMost != nil && v > *e.AtMost:
		return false
	case e.About != nil:
		within := aTenth
		if e.Within != nil {
			within = *e.Within
		}
		return math.Abs(v-*e.About) <= within*math.Abs(*e.About)
	}
	return e.AtLeast != nil || e.AtMost != nil
}

// bound says what is expected, in words.
func (e Expectation) bound() string {
	value := func(v float64) string {
		if e.Over != "" {
			return plain(v)
		}
		return show(e.Measure, v)
	}
	switch {
	case e.About != nil:
		within := aTenth
		if e.Within != nil {
			within = *e.Within
		}
		return fmt.Sprintf("about %s (within %s %%)", value(*e.About), plain(100*within))
	case e.AtLeast != nil && e.AtMost != nil:
		return fmt.Sprintf("%s to %s", value(*e.AtLeast), value(*e.AtMost))
	case e.AtLeast != nil:
		return "at least " + value(*e.AtLeast)
	case e.AtMost != nil:
		return "at most " + value(*e.AtMost)
	}
	return "nothing"
}

// find is a measure of a variant.
func find(variants map[string]map[string]measure.Summary, variant, key string) (measure.Summary, error) {
	measures, ran := variants[variant]
	if !ran {
		return measure.Summary{}, fmt.Errorf("%s did not run", variant)
	}
	value, ok := measures[key]
	if !ok {
		return measure.Summary{}, fmt.Errorf("%s was not measured for %s", key, variant)
	}
	return value, nil
}

// quotient divides; nothing by nothing is 1: the two are alike.
func quotient(a, b float64) float64 {
	if a == 0 && b == 0 {
		return 1
	}
	return a / b
}

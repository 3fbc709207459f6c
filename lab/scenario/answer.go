package scenario

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"spillway.dev/lab/measure"
	"spillway.dev/lab/scenario/strict"
)

// Answer is a sentence with places for measures: {VARIANT.MEASURE} is the median
// with its unit, {VARIANT.MEASURE / VARIANT.MEASURE} the quotient of two. Ratios
// are shown in percent.
type Answer struct {
	text   string
	pieces []piece
}

// piece is plain text, or a place.
type piece struct {
	text            string
	variant, key    string // of a place
	variant2, under string // of a quotient
}

// ParseAnswer reads the template of an answer; every place has to name one of
// the variants and a measure that there is.
func ParseAnswer(text string, variants []string) (Answer, error) {
	a := Answer{text: strings.Join(strings.Fields(text), " ")}
	var errs []error
	for rest := a.text; rest != ""; {
		before, after, open := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return Answer{}, errors.New("a } has no { before it")
		}
		a.pieces = append(a.pieces, piece{text: before})
		if !open {
			break
		}
		place, after, closed := strings.Cut(after, "}")
		if !closed {
			return Answer{}, errors.New("a { has no } after it; a place is written {variant.measure}")
		}
		p, err := parsePlace(place, variants)
		errs = append(errs, err)
		a.pieces = append(a.pieces, p)
		rest = after
	}
	return a, errors.Join(errs...)
}

func parsePlace(place string, variants []string) (piece, error) {
	above, below, divided := strings.Cut(place, "/")
	p := piece{}
	var err error
	if p.variant, p.key, err = parseTerm(above, variants); err == nil && divided {
		p.variant2, p.under, err = parseTerm(below, variants)
	}
	return p, err
}

func parseTerm(term string, variants []string) (variant, key string, err error) {
	variant, key, dotted := strings.Cut(strings.TrimSpace(term), ".")
	if !dotted {
		return "", "", fmt.Errorf("{%s} is no place; write {variant.measure}", term)
	}
	if !slices.Contains(variants, variant) {
		return "", "", errors.New(strict.Unknown("the answer names the variant", variant, variants))
	}
	return variant, key, knownMeasure(key)
}

// Fill is the sentence with the measures of the variants in place. A measure
// that was not taken is an error: half a sentence is no answer. The answer of a
// scenario that has none is empty.
func (a Answer) Fill(variants map[string]map[string]measure.Summary) (string, error) {
	var out strings.Builder
	for _, p := range a.pieces {
		if p.variant == "" {
			out.WriteString(p.text)
			continue
		}
		value, err := find(variants, p.variant, p.key)
		if err != nil {
			return "", fmt.Errorf("fill the answer: %w", err)
		}
		if p.variant2 == "" {
			out.WriteString(show(p.key, value.Median))
			continue
		}
		other, err := find(variants, p.variant2, p.under)
		if err != nil {
			return "", fmt.Errorf("fill the answer: %w", err)
		}
		out.WriteString(plain(quotient(value.Median, other.Median)))
	}
	return out.String(), nil
}

// show is a value with its unit as people read it.
func show(key string, v float64) string {
	k, _ := measure.Lookup(key)
	switch {
	case k.Unit == "" && strings.HasSuffix(k.Name, "_ratio"):
		return plain(100*v) + " %"
	case k.Unit == "", k.Unit == "1":
		return plain(v)
	case k.Unit == "1/s":
		return plain(v) + "/s"
	}
	return plain(v) + " " + k.Unit
}

// interval is the bootstrap interval in brackets; nothing when there is one
// value only.
func interval(key string, s measure.Summary) string {
	if s.Low == s.High {
		return ""
	}
	return fmt.Sprintf(" (%s to %s)", show(key, s.Low), show(key, s.High))
}

// plain is a number with three significant digits; from 100 on, whole.
func plain(v float64) string {
	switch {
	case math.IsInf(v, 0):
		return "infinite"
	case math.Abs(v) >= 100:
		return strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

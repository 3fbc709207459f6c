package report

import (
	"errors"
	"fmt"
	"time"

	"spillway.dev/lab/measure"
	"spillway.dev/lab/trace"
)

// Result is a run of a scenario: all that a report tells.
type Result struct {
	// Scenario is its short name, Question what it asks.
	Scenario string `json:"scenario"`
	Question string `json:"question"`
	// Document is the file that teaches the scenario.
	Document string `json:"document,omitempty"`
	// Answer is one sentence. Left empty, it is made of the first expectation's
	// measure, or of how much was answered in time.
	Answer string `json:"answer,omitempty"`
	// Command is what runs the same again.
	Command string    `json:"command"`
	Began   time.Time `json:"began"`
	Seed    uint64    `json:"seed"`
	// Commit is the version of the project that ran, "-dirty" when it had
	// changes.
	Commit    string  `json:"commit"`
	Timelapse float64 `json:"timelapse"`
	// Valid is false when the host could not keep up; Invalid says why.
	Valid   bool     `json:"valid"`
	Invalid []string `json:"invalid,omitempty"`
	// Cost is the measure against which missed deadlines are plotted, such as
	// node_seconds; empty for no such plot.
	Cost string `json:"cost,omitempty"`
	// Environment is the host and the programs: name and value.
	Environment  map[string]string `json:"environment,omitempty"`
	Expectations []Expectation     `json:"expectations,omitempty"`
	// Variants are in the order of the scenario. Differences are to the first.
	Variants []Variant `json:"variants"`
}

// Variant is one of the things that were tried.
type Variant struct {
	Name string `json:"name"`
	// Says is one sentence on what is different about it.
	Says string `json:"says,omitempty"`
	// Repeats is how many times it ran.
	Repeats  int                        `json:"repeats"`
	Measures map[string]measure.Summary `json:"measures"`
	// Recording is that of the repeat that is drawn: the median one.
	Recording *measure.Recording `json:"recording,omitempty"`
	// Traces are its slowest, slowest first.
	Traces []Trace `json:"traces,omitempty"`
}

// Expectation is a rule of the scenario and whether it held.
type Expectation struct {
	// Measure is the key that it is about.
	Measure string `json:"measure,omitempty"`
	OK      bool   `json:"ok"`
	// Text says what was expected and what was found.
	Text string `json:"text"`
}

// Trace is one request's way through the mesh.
type Trace struct {
	ID string `json:"id"`
	// At is when it began, in scenario seconds.
	At float64 `json:"at_s"`
	// Journey is what the person wanted.
	Journey string `json:"journey,omitempty"`
	// Millis is how long it took, in real milliseconds.
	Millis float64 `json:"ms"`
	// Spans are in the order of cause: parents before children.
	Spans []Span `json:"spans"`
}

// Span is one step of a trace.
type Span struct {
	// Depth is how many spans are above it.
	Depth   int    `json:"depth"`
	Service string `json:"service"`
	Name    string `json:"name"`
	// Start is from the begin of the trace; both are real milliseconds.
	Start  float64 `json:"start_ms"`
	Millis float64 `json:"ms"`
	Failed bool    `json:"failed,omitempty"`
	Reason string  `json:"reason,omitempty"`
}

// maxSpans bounds what is kept of one trace. A purchase has about 30.
const maxSpans = 200

// TraceOf turns a tree of spans, whose clocks are corrected, into a trace of a
// report. At is in scenario seconds.
func TraceOf(tree *trace.Tree, at float64, journey string) Trace {
	out := Trace{ID: tree.ID, At: at, Journey: journey, Millis: millis(tree.End.Sub(tree.Start))}
	var walk func(nodes []*trace.Node, depth int)
	walk = func(nodes []*trace.Node, depth int) {
		for _, n := range nodes {
			if len(out.Spans) == maxSpans {
				return
			}
			out.Spans = append(out.Spans, Span{
				Depth: depth, Service: n.Service, Name: n.Name,
				Start: millis(n.Start.Sub(tree.Start)), Millis: millis(n.End.Sub(n.Start)),
				Failed: n.Failed, Reason: n.Reason,
			})
			walk(n.Children, depth+1)
		}
	}
	walk(tree.Roots, 0)
	return out
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// check says what is missing before anything is written.
func (r *Result) check() error {
	var errs []error
	if r.Scenario == "" {
		errs = append(errs, errors.New("the result has no scenario name"))
	}
	if len(r.Variants) == 0 {
		errs = append(errs, errors.New("the result has no variants: run at least one"))
	}
	seen := map[string]bool{}
	for i, v := range r.Variants {
		switch {
		case v.Name == "":
			errs = append(errs, fmt.Errorf("variant %d has no name", i+1))
		case seen[v.Name]:
			errs = append(errs, fmt.Errorf("two variants are called %q: give each a name of its own", v.Name))
		}
		seen[v.Name] = true
	}
	if !r.Valid && len(r.Invalid) == 0 {
		errs = append(errs, errors.New("the result is not valid and does not say why"))
	}
	return errors.Join(errs...)
}

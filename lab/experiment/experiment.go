package experiment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"spillway.dev/lab/build"
	"spillway.dev/lab/load"
	"spillway.dev/lab/measure"
	"spillway.dev/lab/report"
	"spillway.dev/lab/scenario"
)

// Options say how a scenario is run.
type Options struct {
	Scenario *scenario.Scenario
	Engine   Engine
	// Scaled is what Engine.Check told of the scenario.
	Scaled map[string]bool
	// Variants are those to run, of the scenario's; all of them when empty.
	Variants []string
	// Repeat is how often each runs; repeat n has the seed Seed + n, the same one
	// in every variant, so that variants meet the same arrivals.
	Repeat int
	Seed   uint64
	// Timelapse divides the durations of scenario, autoscaler and rules.
	Timelapse float64
	// Root holds k8s/ and bin/.
	Root string
	// Dir takes the report, and the series of every run.
	Dir string
	// Command is what runs the same again, for the report.
	Command string
	Log     *slog.Logger
	// Abandon, when it is closed, ends everything at once: the run under way, its
	// mesh, and the report with them. It may be nil.
	Abandon <-chan struct{}
	// Progress is told how it goes, from several goroutines, one at a time. It
	// may be nil.
	Progress func(Moment)
}

// Moment is how far an experiment is.
type Moment struct {
	// Variant runs now, for the Run-th of Runs runs in all.
	Variant   string
	Run, Runs int
	// Phase is what is done: "starting", "load", "reading" or "stopping".
	Phase string
	// Elapsed and Duration of the load are scenario time.
	Elapsed, Duration time.Duration
	// Tick is the generator's latest, while there is load.
	Tick *load.Tick
	// Replicas are the ready replicas by service, Nodes the nodes.
	Replicas map[string]int
	// Note is something that happened, such as a fault.
	Note string
}

// ErrAbandoned is Run's error when Options.Abandon was closed.
var ErrAbandoned = errors.New("ended at once: what was measured is not reported")

// Run runs the scenario and writes the report into options.Dir. When ctx ends
// the run under way is cut short, and what was measured until then is reported
// all the same, as not valid. The error is about what could not be run; what ran
// before it is reported too.
func Run(ctx context.Context, options Options) (*report.Result, error) {
	variants, err := options.Scenario.Select(options.Variants)
	if err != nil {
		return nil, err
	}
	if options.Progress == nil {
		options.Progress = func(Moment) {}
	}
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the report: %w", err)
	}
	release, err := hold(options.Dir)
	if err != nil {
		return nil, err
	}
	defer release()
	// What an earlier run left here would pass for an answer of this one.
	if err := report.Remove(options.Dir); err != nil {
		return nil, err
	}
	if err := clean(options); err != nil {
		return nil, err
	}
	if options.Root, release, err = still(options.Root); err != nil {
		return nil, err
	}
	defer release()
	hard, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	go func() {
		select {
		case <-options.Abandon:
			abandon()
		case <-hard.Done():
		}
	}()
	result := newResult(ctx, options)
	runs, ran := len(variants)*options.Repeat, 0
	measures := make(map[string]map[string]measure.Summary)
	var failed error
	for i, v := range variants {
		var done []*trial
		for n := range options.Repeat {
			if ctx.Err() != nil || failed != nil {
				break
			}
			t := &trial{options: options, variant: v, repeat: n, run: i*options.Repeat + n + 1, runs: runs}
			err := t.do(ctx, hard)
			if hard.Err() != nil {
				return nil, ErrAbandoned
			}
			if t.measures != nil {
				done, ran = append(done, t), ran+1
			}
			// That nothing was measured because ctx ended is no failure.
			if err != nil && (ctx.Err() == nil || t.measures != nil) {
				failed = fmt.Errorf("variant %s, run %d: %w", v.Name, n+1, err)
			}
		}
		if len(done) == 0 {
			break
		}
		ready := summarise(v, done, options.Seed)
		measures[v.Name] = ready.Measures
		result.Variants = append(result.Variants, ready)
		for _, t := range done {
			why := measure.Honest(t.recording)
			if t.doubt != "" {
				why = append(why, t.doubt)
			}
			for _, why := range why {
				result.Invalid = append(result.Invalid, fmt.Sprintf("%s, run %d: %s", v.Name, t.repeat+1, why))
			}
		}
	}
	if len(result.Variants) == 0 {
		if failed != nil {
			return nil, failed
		}
		return nil, errors.New("stopped before anything was measured")
	}
	if ran < runs {
		result.Invalid = append(result.Invalid, fmt.Sprintf("only %d of %d runs were made", ran, runs))
	}
	result.Valid = len(result.Invalid) == 0
	result.judge(options.Scenario, measures)
	if err := errors.Join(failed, report.Write(options.Dir, &result.Result)); err != nil {
		return nil, err
	}
	return &result.Result, nil
}

// summarise is a variant over its repeats.
func summarise(v scenario.Variant, done []*trial, seed uint64) report.Variant {
	var all []map[string]float64
	for _, t := range done {
		all = append(all, t.measures)
	}
	out := report.Variant{Name: v.Name, Says: v.Says, Repeats: len(done), Measures: measure.Summarise(all, seed)}
	// What is drawn is the repeat whose goodput is nearest to the median's.
	drawn := slices.MinFunc(done, func(a, b *trial) int {
		off := func(t *trial) float64 {
			return math.Abs(t.measures["goodput_ratio"] - out.Measures["goodput_ratio"].Median)
		}
		return cmp.Compare(off(a), off(b))
	})
	out.Recording, out.Traces = drawn.recording, drawn.traces
	return out
}

// result is a report under way.
type result struct{ report.Result }

func newResult(ctx context.Context, o Options) *result {
	s, b := o.Scenario, build.Read()
	return &result{report.Result{
		Scenario: s.Name, Question: s.Question, Document: s.Document, Command: o.Command, Began: time.Now(), Seed: o.Seed,
		Commit: commit(b), Timelapse: o.Timelapse, Cost: s.Cost, Environment: environment(ctx, o, b),
	}}
}

// judge holds the measures against what the scenario expects of the variants
// that ran.
func (r *result) judge(s *scenario.Scenario, measures map[string]map[string]measure.Summary) {
	for _, e := range s.Expect {
		if !e.Judged(measures) {
			continue
		}
		ok, text := e.Check(measures)
		if e.Says != "" {
			text = e.Says + " – " + text
		}
		r.Expectations = append(r.Expectations, report.Expectation{Measure: e.Measure, OK: ok, Text: text})
	}
	// A scenario of which only some variants ran has no whole answer.
	if answer, err := s.Answer.Fill(measures); err == nil {
		r.Answer = answer
	}
}

// Met tells whether every expectation held.
func Met(r *report.Result) bool {
	return !slices.ContainsFunc(r.Expectations, func(e report.Expectation) bool { return !e.OK })
}

// dir is where a run keeps what is its own.
func (t *trial) dir() string {
	return filepath.Join(t.options.Dir, runsDir, fmt.Sprintf("%s-%d", t.variant.Name, t.repeat+1))
}

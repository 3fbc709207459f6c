// Package lifecycle ends a replica in order: a list of named steps, each logged and timed, under one deadline.
//
// First readiness goes, then a delay lets the news of it spread, and only then the clock of the deadline starts. Every
// step gets what the steps before it left, less what is kept for those after it (Step.Reserve), so that handlers which
// hang cannot cost the traces of the whole replica or leave a store's connection open. A step whose time is up is cut:
// its context ends, it gets a moment to give up, and the next one runs.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// cutGrace is how long a step that was cut may take to return before it is left behind. Long enough for a forced stop,
// too short to matter for the deadline.
const cutGrace = 100 * time.Millisecond

// Step is one part of a drain. Run ends early when ctx does; what it returns is logged and does not stop the drain.
type Step struct {
	Name string
	Run  func(ctx context.Context) error
	// Reserve is the time that earlier steps must leave to this one. All reserves together take at most half of the
	// deadline and are shortened in proportion beyond that.
	Reserve time.Duration
}

// Drain is how a replica ends.
type Drain struct {
	// Announce takes the replica out of service. It runs first and does not block.
	Announce Step
	// Delay is the wait between Announce and Steps, in which endpoint removal spreads.
	Delay time.Duration
	// Timeout bounds Steps, counted from the end of the delay.
	Timeout time.Duration
	// Steps run in order, each once, whatever became of those before.
	Steps []Step
}

// Result tells how a step went.
type Result struct {
	Name string
	Took time.Duration
	Err  error
	// Cut says that the step's time was up before it was done.
	Cut bool
}

// Run drains and returns one result per step: announce, delay if there is one, and Steps. It takes no context: once begun
// a drain is ended only by being done or by its deadline.
func (d Drain) Run(log *slog.Logger) []Result {
	begin := time.Now()
	results := []Result{run(context.Background(), log, d.Announce)}
	if d.Delay > 0 {
		results = append(results, run(context.Background(), log, Step{Name: "delay", Run: func(context.Context) error {
			time.Sleep(d.Delay)
			return nil
		}}))
	}
	start := time.Now()
	for i, end := range ends(d.Timeout, d.Steps) {
		ctx, cancel := context.WithDeadline(context.Background(), start.Add(end))
		results = append(results, run(ctx, log, d.Steps[i]))
		cancel()
	}
	if cut := Cut(results); len(cut) > 0 {
		log.Warn("drained, but the deadline cut work short", "took", shown(time.Since(begin)), "timeout", d.Timeout.String(),
			"cut", strings.Join(cut, ", "))
	} else {
		log.Info("drained", "took", shown(time.Since(begin)))
	}
	return results
}

// Cut names the steps that were cut.
func Cut(results []Result) []string {
	var names []string
	for _, r := range results {
		if r.Cut {
			names = append(names, r.Name)
		}
	}
	return names
}

// Err joins what the steps returned, each with its name; nil when all went well.
func Err(results []Result) error {
	var errs []error
	for _, r := range results {
		switch {
		case r.Cut:
			errs = append(errs, fmt.Errorf("drain step %q was cut by the deadline after %v: %w", r.Name, r.Took.Round(time.Millisecond), r.Err))
		case r.Err != nil:
			errs = append(errs, fmt.Errorf("drain step %q: %w", r.Name, r.Err))
		}
	}
	return errors.Join(errs...)
}

// ends decides when each step's time is up, counted from the start of the first: the timeout less the reserves of all
// later steps.
func ends(timeout time.Duration, steps []Step) []time.Duration {
	var reserved time.Duration
	for _, s := range steps {
		reserved += s.Reserve
	}
	scale := 1.0
	if reserved > timeout/2 {
		scale = float64(timeout/2) / float64(reserved)
	}
	at := make([]time.Duration, len(steps))
	for i, s := range slices.Backward(steps) {
		at[i] = timeout
		timeout -= time.Duration(scale * float64(s.Reserve))
	}
	return at
}

func run(ctx context.Context, log *slog.Logger, s Step) Result {
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := Result{Name: s.Name}
	select {
	case r.Err = <-done:
	case <-ctx.Done():
		select {
		case r.Err = <-done:
		case <-time.After(cutGrace):
			r.Err = errors.New("it did not return and was left behind")
		}
	}
	// Whatever came first, the end or the word of it: a step that was done all the same was not cut.
	r.Cut = r.Err != nil && ctx.Err() != nil
	r.Took = time.Since(begin)
	switch {
	case r.Cut:
		log.Warn("drain step cut by the deadline", "step", r.Name, "took", shown(r.Took), "error", r.Err)
	case r.Err != nil:
		log.Warn("drain step failed", "step", r.Name, "took", shown(r.Took), "error", r.Err)
	default:
		log.Info("drain step done", "step", r.Name, "took", shown(r.Took))
	}
	return r
}

// shown is a duration for the log: JSON would show it as a bare number of nanoseconds.
func shown(d time.Duration) string { return d.Round(time.Microsecond).String() }

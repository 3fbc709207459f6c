package experiment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"spillway.dev/lab/load"
	"spillway.dev/lab/measure"
	"spillway.dev/lab/report"
	"spillway.dev/lab/scenario"
)

const (
	// startPatience bounds how long a mesh may take until it is ready.
	startPatience = 2 * time.Minute
	// stopPatience bounds its drain.
	stopPatience = time.Minute
	// keptTraces is how many traces a run keeps while it goes on, shownTraces how
	// many of the slowest are in the report.
	keptTraces  = 2000
	shownTraces = 5
)

// trial is one run of one variant.
type trial struct {
	options   Options
	variant   scenario.Variant
	repeat    int
	run, runs int

	recording *measure.Recording
	measures  map[string]float64
	traces    []report.Trace
	doubt     string // why the run is not valid though its measures look well; empty when they may be believed

	mu   sync.Mutex
	seen Moment
}

// do runs the trial on a mesh of its own. When ctx ends it is cut short and
// reads what was measured; when hard ends the mesh is ended at once.
func (t *trial) do(ctx, hard context.Context) error {
	t.tell(func(m *Moment) { m.Phase = "starting" })
	// What an earlier run left is another answer.
	if err := os.RemoveAll(t.dir()); err != nil {
		return fmt.Errorf("make room for the run: %w", err)
	}
	mesh, err := t.options.Engine.Up(ctx, Start{
		Variant: t.variant, Timelapse: t.options.Timelapse, Scrape: scrapes(t.options.Scenario.Faults), Root: t.options.Root, Dir: t.dir(), Log: t.options.Log, Note: t.note,
	})
	if err != nil {
		return t.tidy(ctx, err)
	}
	err = t.measure(ctx, hard, mesh)
	t.tell(func(m *Moment) { m.Phase, m.Tick = "stopping", nil })
	stopping, cancel := context.WithTimeout(hard, stopPatience)
	defer cancel()
	down := mesh.Down(stopping)
	if err == nil && t.measures != nil && down != nil {
		// Nothing is left running, and what was measured is there: of it, this is
		// one more thing to know.
		t.doubt, down = "the mesh could not be stopped in order: "+down.Error(), nil
	}
	return t.tidy(ctx, errors.Join(err, down))
}

// tidy removes the state directory of a run that ended with err. Orders and
// sessions of a run answer nothing; its series are kept. What failed leaves its
// logs, which may say why.
func (t *trial) tidy(ctx context.Context, err error) error {
	state := filepath.Join(t.dir(), stateDir)
	if err == nil || ctx.Err() != nil {
		return errors.Join(err, os.RemoveAll(state))
	}
	logs := filepath.Join(state, "logs")
	if _, none := os.Stat(logs); none != nil { // it did not come that far, or runs elsewhere
		return err
	}
	return fmt.Errorf("%w; what its processes said is in %s", err, logs)
}

// measure offers the load while the timeline goes on, and reads what came of it.
func (t *trial) measure(ctx, hard context.Context, mesh Mesh) error {
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	// Knobs can be set once a replica has declared them.
	if err := mesh.WaitReady(starting); err != nil {
		return err
	}
	if err := t.slowStarts(starting, mesh); err != nil {
		return err
	}
	for service, knobs := range t.variant.Knobs {
		for name, value := range knobs {
			if err := mesh.SetKnob(starting, service, name, value); err != nil {
				return fmt.Errorf("knob %s of %s: %w", name, service, err)
			}
		}
	}
	line := plan(t.options.Scenario, t.options.Timelapse)
	offered := t.variant.Load
	offered.Seed, offered.Timelapse = t.options.Seed+uint64(t.repeat), t.options.Timelapse

	loading, stop := context.WithCancel(ctx)
	defer stop()
	var steps sync.WaitGroup
	var stepErr error
	begun := func(begin time.Time) {
		steps.Go(func() {
			if stepErr = line.run(loading, mesh, begin, t.options.Timelapse, t.note); stepErr != nil {
				stop()
			}
		})
	}
	record, err := mesh.Offer(loading, hard, offered, begun, func(tick load.Tick) { t.loaded(hard, mesh, tick) })
	stop()
	steps.Wait()
	if err := errors.Join(stepErr, err); err != nil {
		return err
	}
	t.tell(func(m *Moment) { m.Phase, m.Tick = "reading", nil })
	return t.read(hard, mesh, line, record)
}

// startDelay is the knob by which a replica takes longer to start.
const startDelay = "start.delay"

// longestStartUp is what a startup probe of k8s/base lets pass, with room for the
// start itself.
const longestStartUp = 25 * time.Second

// slowStarts has every replica that starts from now on take the time that the
// scenario says.
func (t *trial) slowStarts(ctx context.Context, mesh Mesh) error {
	startUp := time.Duration(float64(t.options.Scenario.StartUp) / t.options.Timelapse)
	switch {
	case startUp == 0:
		return nil
	case startUp > longestStartUp:
		return fmt.Errorf("a start-up of %s takes %s at a time-lapse of %v, longer than the startup probe waits; give --timelapse %.0f or more",
			t.options.Scenario.StartUp, startUp, t.options.Timelapse, math.Ceil(t.options.Scenario.StartUp.Seconds()/longestStartUp.Seconds()))
	}
	services, err := mesh.Ready(ctx)
	if err != nil {
		return fmt.Errorf("slow starts: %w", err)
	}
	for service := range services {
		if err := mesh.SetKnob(ctx, service, startDelay, startUp.String()); err != nil {
			return fmt.Errorf("slow starts of %s: %w", service, err)
		}
	}
	return nil
}

// tell changes the moment and shows it.
func (t *trial) tell(change func(*Moment)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.Variant, t.seen.Run, t.seen.Runs, t.seen.Duration = t.variant.Name, t.run, t.runs, t.options.Scenario.Duration
	t.seen.Note = ""
	change(&t.seen)
	t.options.Progress(t.seen)
}

// note shows something that happened.
func (t *trial) note(text string) { t.tell(func(m *Moment) { m.Note = text }) }

// loaded shows a second of load.
func (t *trial) loaded(ctx context.Context, mesh Mesh, tick load.Tick) {
	replicas, err := mesh.Ready(ctx)
	t.tell(func(m *Moment) {
		m.Phase, m.Tick = "load", &tick
		if err == nil { // else what was known holds
			m.Replicas = replicas
		}
		m.Elapsed = min(time.Duration(float64(tick.Elapsed)*t.options.Timelapse), m.Duration)
	})
}

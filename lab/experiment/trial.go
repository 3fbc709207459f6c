package experiment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"spillway.dev/lab/engine/local"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/load"
	"spillway.dev/lab/measure"
	"spillway.dev/lab/report"
	"spillway.dev/lab/rig"
	"spillway.dev/lab/scenario"
	"spillway.dev/lab/trace"
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
	cut  map[string]bool // services of which a replica ended without draining
}

// do runs the trial on a mesh of its own. When ctx ends it is cut short and
// reads what was measured; when hard ends the mesh is ended at once.
func (t *trial) do(ctx, hard context.Context) error {
	t.tell(func(m *Moment) { m.Phase = "starting" })
	state := filepath.Join(t.dir(), stateDir)
	// What an earlier run left is another answer.
	if err := os.RemoveAll(t.dir()); err != nil {
		return fmt.Errorf("make room for the run: %w", err)
	}
	traces := trace.NewStore(keptTraces)
	mesh, err := rig.Up(ctx, rig.Options{
		Engine: local.Options{
			Root: t.options.Root, StateDir: state, Log: t.options.Log, Traces: traces, Conductor: t.options.Conductor,
			Variant:  manifest.Variant{Components: t.variant.Components, Patches: t.variant.Patches},
			Nodes:    t.variant.Nodes,
			Yield:    true, // an arrival must not wait for a replica's work
			Progress: t.event,
		},
		ReadToEnd: true,
		Timelapse: t.options.Timelapse, MetricsDir: filepath.Join(t.dir(), "metrics"), Log: t.options.Log,
	})
	if err != nil {
		return t.tidy(ctx, state, err)
	}
	err = t.measure(ctx, hard, mesh, state, traces)
	t.tell(func(m *Moment) { m.Phase, m.Tick = "stopping", nil })
	stopping, cancel := context.WithTimeout(hard, stopPatience)
	defer cancel()
	down := mesh.Down(stopping)
	if err == nil && t.measures != nil && down != nil {
		// Nothing is left running, and what was measured is there: of it, this is
		// one more thing to know.
		t.doubt, down = "the mesh could not be stopped in order: "+down.Error(), nil
	}
	return t.tidy(ctx, state, errors.Join(err, down))
}

// tidy removes the state directory of a run that ended with err. Orders and
// sessions of a run answer nothing; its series are kept. What failed leaves its
// logs, which may say why.
func (t *trial) tidy(ctx context.Context, state string, err error) error {
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w; what its processes said is in %s", err, filepath.Join(state, "logs"))
	}
	return errors.Join(err, os.RemoveAll(state))
}

// measure offers the load while the timeline goes on, and reads what came of it.
func (t *trial) measure(ctx, hard context.Context, mesh *rig.Rig, state string, traces *trace.Store) error {
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	// Knobs can be set once a replica has declared them.
	if err := mesh.Engine.WaitReady(starting); err != nil {
		return err
	}
	if err := t.slowStarts(starting, mesh); err != nil {
		return err
	}
	for service, knobs := range t.variant.Knobs {
		for name, value := range knobs {
			if _, err := mesh.Faults.SetKnob(starting, service, name, value); err != nil {
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
			told := func(text string) { t.tell(func(m *Moment) { m.Note = text }) }
			if stepErr = line.run(loading, mesh, begin, t.options.Timelapse, told); stepErr != nil {
				stop()
			}
		})
	}
	command := append(append([]string{}, t.options.Generator...), state)
	record, err := generate(loading, hard, command, offered, begun, func(tick load.Tick) { t.loaded(mesh, tick) })
	stop()
	steps.Wait()
	if err := errors.Join(stepErr, err); err != nil {
		return err
	}
	t.tell(func(m *Moment) { m.Phase, m.Tick = "reading", nil })
	return t.read(hard, mesh, line, record, traces)
}

// startDelay is the knob by which a replica takes longer to start.
const startDelay = "start.delay"

// longestStartUp is what a startup probe of k8s/base lets pass, with room for the
// start itself.
const longestStartUp = 25 * time.Second

// slowStarts has every replica that starts from now on take the time that the
// scenario says.
func (t *trial) slowStarts(ctx context.Context, mesh *rig.Rig) error {
	startUp := time.Duration(float64(t.options.Scenario.StartUp) / t.options.Timelapse)
	switch {
	case startUp == 0:
		return nil
	case startUp > longestStartUp:
		return fmt.Errorf("a start-up of %s takes %s at a time-lapse of %v, longer than the startup probe waits; give --timelapse %.0f or more",
			t.options.Scenario.StartUp, startUp, t.options.Timelapse, math.Ceil(t.options.Scenario.StartUp.Seconds()/longestStartUp.Seconds()))
	}
	for _, d := range mesh.Engine.Snapshot().Deployments {
		if _, err := mesh.Faults.SetKnob(ctx, d.Name, startDelay, startUp.String()); err != nil {
			return fmt.Errorf("slow starts of %s: %w", d.Name, err)
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

// event shows what matters of what the engine tells.
func (t *trial) event(e local.Event) {
	if e.Cut {
		t.mu.Lock()
		if t.cut == nil {
			t.cut = make(map[string]bool)
		}
		t.cut[e.Workload] = true
		t.mu.Unlock()
	}
	switch e.Kind {
	case local.EventManifestError, local.EventLeftovers:
		t.tell(func(m *Moment) { m.Note = e.String() })
	}
}

// whoWasCut are the services of which a replica ended without draining until now.
func (t *trial) whoWasCut() map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.cut)
}

// loaded shows a second of load.
func (t *trial) loaded(mesh *rig.Rig, tick load.Tick) {
	replicas := make(map[string]int)
	for _, d := range mesh.Engine.Snapshot().Deployments {
		replicas[d.Name] = int(d.Status.ReadyReplicas)
	}
	t.tell(func(m *Moment) {
		m.Phase, m.Tick, m.Replicas = "load", &tick, replicas
		m.Elapsed = min(time.Duration(float64(tick.Elapsed)*t.options.Timelapse), m.Duration)
	})
}

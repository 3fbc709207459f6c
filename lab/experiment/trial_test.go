package experiment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/fault"
	"spillway.dev/lab/load"
	"spillway.dev/lab/measure"
	"spillway.dev/lab/scenario"
)

// silent is a metrics store in which there is nothing about anybody. Whoever is
// waited for was scraped long after.
type silent struct{}

func (silent) Query(context.Context, string, time.Time) (promql.Vector, error) {
	return promql.Vector{{F: 1e12}}, nil
}
func (silent) QueryRange(context.Context, string, time.Time, time.Time, time.Duration) (promql.Matrix, error) {
	return nil, nil
}
func (silent) Samples(context.Context, string, time.Duration, time.Time) (promql.Matrix, error) {
	return nil, nil
}
func (silent) Interval() time.Duration { return time.Millisecond }

// fakeEngine runs meshes of which nothing is there but the calls to them.
type fakeEngine struct {
	calls   []string
	notUp   error
	unready error
	down    error
}

func (e *fakeEngine) called(format string, args ...any) {
	e.calls = append(e.calls, fmt.Sprintf(format, args...))
}

func (e *fakeEngine) Check(*scenario.Scenario, string) (map[string]bool, error) { return nil, nil }

func (e *fakeEngine) Environment(context.Context) map[string]string {
	return map[string]string{"engine": "fake"}
}

func (e *fakeEngine) Up(_ context.Context, s Start) (Mesh, error) {
	e.called("up %s %v", s.Variant.Name, s.Timelapse)
	s.Note("something to know")
	if e.notUp != nil {
		return nil, e.notUp
	}
	return &fakeMesh{e}, nil
}

type fakeMesh struct{ *fakeEngine }

func (m *fakeMesh) WaitReady(context.Context) error { m.called("wait"); return m.unready }

func (m *fakeMesh) Ready(context.Context) (map[string]int, error) {
	return map[string]int{"order": 2}, nil
}

func (m *fakeMesh) SetKnob(_ context.Context, service, name, value string) error {
	m.called("knob %s %s %s", service, name, value)
	return nil
}

func (m *fakeMesh) BeginFault(_ context.Context, f fault.Fault, d time.Duration) error {
	m.called("fault %s for %s", f, d)
	return nil
}

func (m *fakeMesh) SetReplicas(_ context.Context, service string, n int) (int, error) {
	m.called("scale %s to %d", service, n)
	return 2, nil
}

func (m *fakeMesh) Offer(ctx, _ context.Context, plan load.Plan, begun func(time.Time), tick func(load.Tick)) (*load.Record, error) {
	m.called("offer seed %d", plan.Seed)
	begin := time.Now()
	tick(load.Tick{Elapsed: time.Millisecond})
	begun(begin)
	<-ctx.Done() // the timeline has a step that fails, or the test ends it
	return &load.Record{Begin: begin, Report: load.Report{ElapsedS: 60, Seed: plan.Seed, CutShort: true}}, nil
}

func (m *fakeMesh) Observed(context.Context) (Observed, error) {
	m.called("observed")
	now := time.Now()
	return Observed{
		Metrics: silent{}, Since: now, HostCPU: []Busy{{At: now.Add(-time.Hour), Share: 0.25}},
		Rescales: []autoscaler.Rescale{{At: now.Add(time.Second), Target: "order", From: 2, To: 3}},
	}, nil
}

func (m *fakeMesh) Down(context.Context) error { m.called("down"); return m.down }

// trialOf runs a scenario of one variant on the engine until its fault has begun.
func trialOf(t *testing.T, e *fakeEngine) (Options, context.Context) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "k8s"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	s := &scenario.Scenario{
		Name: "s", Question: "What is called?", Duration: time.Minute, StartUp: 2 * time.Second,
		Variants: []scenario.Variant{{Name: "only", Knobs: map[string]map[string]string{"bank": {"a": "1"}}, Load: load.Default()}},
		Faults:   []scenario.TimedFault{{Fault: fault.Fault{Kill: &fault.Replicas{Service: "order"}}}},
		Scale:    []scenario.Scaling{{Service: "order", Replicas: 3}},
	}
	return Options{
		Scenario: s, Engine: e, Repeat: 1, Seed: 7, Timelapse: 2, Root: root, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Progress: func(m Moment) {
			if strings.HasPrefix(m.Note, "scale") { // the last step is done
				stop()
			}
		},
	}, ctx
}

// Everything that a scenario says is asked of the mesh, whichever it is.
func TestAMeshIsAskedWhatTheScenarioSays(t *testing.T) {
	e := &fakeEngine{down: errors.New("one hangs")}
	options, ctx := trialOf(t, e)
	result, err := Run(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	kill := options.Scenario.Faults[0].Fault.String()
	want := []string{
		"up only 2", "wait", "knob order start.delay 1s", "knob bank a 1", "offer seed 7",
		"fault " + kill + " for 0s", "scale order to 3", "observed", "down",
	}
	if !slices.Equal(e.calls, want) {
		t.Errorf("called\n%q, want\n%q", e.calls, want)
	}
	r := result.Variants[0].Recording
	if len(r.HostCPU) != 1 || r.HostCPU[0] != (measure.Point{V: 0.25}) || !r.CutShort {
		t.Errorf("recorded %+v", r)
	}
	if len(r.Actions) != 2 || r.Actions[0].From != 2 || r.Actions[1].To != 3 {
		t.Errorf("actions %+v", r.Actions)
	}
	if result.Valid || !strings.Contains(strings.Join(result.Invalid, "; "), "one hangs") || result.Environment["engine"] != "fake" {
		t.Errorf("valid %v: %v, in %v", result.Valid, result.Invalid, result.Environment)
	}
}

func TestAMeshThatDoesNotBecomeReadyIsEnded(t *testing.T) {
	e := &fakeEngine{unready: errors.New("order has 0 of 2")}
	options, ctx := trialOf(t, e)
	if _, err := Run(ctx, options); err == nil || !strings.Contains(err.Error(), "order has 0 of 2") {
		t.Errorf("%v", err)
	}
	if want := []string{"up only 2", "wait", "down"}; !slices.Equal(e.calls, want) {
		t.Errorf("called %q, want %q", e.calls, want)
	}
}

func TestAMeshThatDoesNotStartIsNotEnded(t *testing.T) {
	e := &fakeEngine{notUp: errors.New("no room")}
	options, ctx := trialOf(t, e)
	if _, err := Run(ctx, options); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("%v", err)
	}
	if want := []string{"up only 2"}; !slices.Equal(e.calls, want) {
		t.Errorf("called %q, want %q", e.calls, want)
	}
}

func TestHowBusyMachinesWereBeginsWithTheLoad(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	got := busy([]Busy{{at(-20), 0.1}, {at(-5), 0.2}, {at(5), 0.3}}, begin, 2)
	if want := (measure.Series{{T: 0, V: 0.2}, {T: 10, V: 0.3}}); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

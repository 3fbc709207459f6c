package experiment

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"spillway.dev/lab/engine/local"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/fault"
	"spillway.dev/lab/load"
	"spillway.dev/lab/rig"
	"spillway.dev/lab/scenario"
	"spillway.dev/lab/trace"
)

// Local runs meshes as processes of this machine. It implements Engine.
type Local struct {
	// Conductor and Generator are the commands of the processes that call
	// local.Conduct, and Offer for the mesh of the state directory that is added
	// as last argument.
	Conductor, Generator []string
}

// overlay is what runs on this machine, below k8s/.
const overlay = "overlays/local"

// Check implements Engine: it renders the manifests of every variant.
func (Local) Check(s *scenario.Scenario, root string) (scaled map[string]bool, err error) {
	scratch, err := os.MkdirTemp("", "spillway-scenario-")
	if err != nil {
		return nil, fmt.Errorf("check the scenario: %w", err)
	}
	defer os.RemoveAll(scratch)
	scaled = s.ScaledByHand()
	for _, v := range s.Variants {
		changes := manifest.Variant{Components: v.Components, Patches: v.Patches}
		m, err := manifest.LoadVariant(filepath.Join(root, "k8s"), overlay, changes, filepath.Join(scratch, v.Name))
		if err != nil {
			return nil, fmt.Errorf("variant %s: %w", v.Name, err)
		}
		for _, hpa := range m.HPAs {
			scaled[hpa.Spec.ScaleTargetRef.Name] = true
		}
		var names []string
		for _, d := range m.Deployments {
			names = append(names, d.Name)
		}
		if err := s.CheckServices(names); err != nil {
			return nil, err
		}
	}
	return scaled, nil
}

// localMesh is a mesh of this machine.
type localMesh struct {
	rig       *rig.Rig
	generator []string
	state     string // directory
	since     time.Time
	traces    *trace.Store
	note      func(string)

	mu  sync.Mutex
	cut map[string]bool
}

// Up implements Engine. The state directory is one of s.Dir.
func (l Local) Up(ctx context.Context, s Start) (Mesh, error) {
	m := &localMesh{
		generator: l.Generator, state: filepath.Join(s.Dir, stateDir), since: time.Now(), note: s.Note,
		traces: trace.NewStore(keptTraces), cut: make(map[string]bool),
	}
	var err error
	m.rig, err = rig.Up(ctx, rig.Options{
		Engine: local.Options{
			Root: s.Root, StateDir: m.state, Log: s.Log, Traces: m.traces, Conductor: l.Conductor,
			Variant:  manifest.Variant{Components: s.Variant.Components, Patches: s.Variant.Patches},
			Nodes:    s.Variant.Nodes,
			Yield:    true, // an arrival must not wait for a replica's work
			Progress: m.event,
		},
		ReadToEnd: true,
		Timelapse: s.Timelapse, Scrape: s.Scrape, MetricsDir: filepath.Join(s.Dir, "metrics"), Log: s.Log,
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// event keeps and shows what matters of what the engine tells.
func (m *localMesh) event(e local.Event) {
	if e.Cut {
		m.mu.Lock()
		m.cut[e.Workload] = true
		m.mu.Unlock()
	}
	switch e.Kind {
	case local.EventManifestError, local.EventLeftovers:
		m.note(e.String())
	}
}

// WaitReady implements Mesh.
func (m *localMesh) WaitReady(ctx context.Context) error { return m.rig.Engine.WaitReady(ctx) }

// Ready implements Mesh.
func (m *localMesh) Ready(context.Context) (map[string]int, error) {
	ready := make(map[string]int)
	for _, d := range m.rig.Engine.Snapshot().Deployments {
		ready[d.Name] = int(d.Status.ReadyReplicas)
	}
	return ready, nil
}

// SetKnob implements Mesh.
func (m *localMesh) SetKnob(ctx context.Context, service, name, value string) error {
	_, err := m.rig.Faults.SetKnob(ctx, service, name, value)
	return err
}

// BeginFault implements Mesh.
func (m *localMesh) BeginFault(ctx context.Context, f fault.Fault, d time.Duration) error {
	_, err := m.rig.Faults.Begin(ctx, f, d)
	return err
}

// SetReplicas implements Mesh.
func (m *localMesh) SetReplicas(_ context.Context, service string, n int) (previous int, err error) {
	return m.rig.Engine.SetReplicas(service, n)
}

// Offer implements Mesh.
func (m *localMesh) Offer(ctx, hard context.Context, plan load.Plan, begun func(time.Time), tick func(load.Tick)) (*load.Record, error) {
	return generate(ctx, hard, append(slices.Clone(m.generator), m.state), plan, begun, tick)
}

// Observed implements Mesh.
func (m *localMesh) Observed(ctx context.Context) (Observed, error) {
	ready, err := m.Ready(ctx)
	rescales, _, _ := m.rig.Autoscaler.Rescales().After(0)
	events, _, _ := m.rig.Autoscaler.Events().After(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	return Observed{
		Metrics: m.rig.Metrics, Since: m.since, Services: slices.Sorted(maps.Keys(ready)), Rescales: rescales, Events: events,
		Cut: maps.Clone(m.cut), Traces: m.traces,
	}, err
}

// Down implements Mesh.
func (m *localMesh) Down(ctx context.Context) error { return m.rig.Down(ctx) }

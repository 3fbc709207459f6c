package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/engine/kube"
	"spillway.dev/lab/experiment"
	"spillway.dev/lab/fault"
	"spillway.dev/lab/metrics/remote"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// lookAgain is the time between two looks at what there is no event for.
const lookAgain = 500 * time.Millisecond

// freshFor is how long a list of replicas serves for those who only show it.
const freshFor = 3 * time.Second

// mesh is a mesh in a cluster. It implements experiment.Mesh.
type mesh struct {
	session  *kube.Session
	metrics  *remote.Store
	faults   faultv1.FaultServiceClient
	knobs    knobv1.KnobServiceClient
	services []string // by name
	since    time.Time

	journal *journal
	cpu     *meter
	stop    context.CancelFunc
	watches sync.WaitGroup

	mu      sync.Mutex
	killed  map[string]bool
	byHand  []change
	wanted  map[string]int // replicas at the beginning
	ready   map[string]int
	readyAt time.Time
}

func newMesh(session *kube.Session, metrics *remote.Store, services []string, since time.Time) *mesh {
	return &mesh{
		session: session, metrics: metrics, services: services, since: since,
		faults: faultv1.NewFaultServiceClient(session.Conn()), knobs: knobv1.NewKnobServiceClient(session.Conn()),
		journal: newJournal(), cpu: newMeter(), killed: make(map[string]bool),
	}
}

// begin notes where the mesh begins and watches what becomes of it until end.
func (m *mesh) begin(ctx context.Context) error {
	workloads, err := m.session.Workloads(ctx)
	if err != nil {
		return err
	}
	m.wanted = make(map[string]int)
	for _, w := range workloads {
		m.wanted[w.GetName()] = int(w.GetDesired())
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	m.watches.Go(func() { m.journal.follow(watching, m.session.Conn()) })
	m.watches.Go(func() { m.cpu.follow(watching, m.session.CPUs) })
	return nil
}

// end stops what begin began, and gives the connections but the session back.
func (m *mesh) end() {
	if m.stop != nil {
		m.stop()
	}
	m.watches.Wait()
	m.metrics.Close()
}

// WaitReady implements experiment.Mesh: after Up replicas are ready, but who scales
// and reads them may not know them yet.
func (m *mesh) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	var last error
	for {
		// The last look is cut off by the end of ctx: the one before tells more.
		now := m.known(ctx)
		if now == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the mesh in %s runs, but %w: %w", m.session.Where(), last, ctx.Err())
		}
	}
}

// known tells what the control plane or Prometheus do not know yet; nil when they
// know all.
func (m *mesh) known(ctx context.Context) error {
	list, err := m.knobs.ListKnobs(ctx, &knobv1.ListKnobsRequest{})
	if err != nil {
		return err
	}
	declared := make(map[string]bool)
	for _, s := range list.GetServices() {
		declared[s.GetService()] = true
	}
	for _, name := range m.services {
		if !declared[name] {
			return fmt.Errorf("%s has declared no knobs", name)
		}
	}
	for what, expr := range map[string]string{
		"Prometheus has not scraped":                  `count by (service) (up{pod!=""} == 1)`,
		"Prometheus has not heard from Kubernetes of": "spillway:service_replicas_ready > 0",
	} {
		vector, err := m.metrics.Query(ctx, expr, time.Now())
		if err != nil {
			return err
		}
		of := make(map[string]bool)
		for _, sample := range vector {
			of[sample.Metric.Get("service")] = true
		}
		for _, name := range m.services {
			if !of[name] {
				return fmt.Errorf("%s %s", what, name)
			}
		}
	}
	return nil
}

// Ready implements experiment.Mesh. What it tells may be some seconds old.
func (m *mesh) Ready(ctx context.Context) (map[string]int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready != nil && time.Since(m.readyAt) < freshFor {
		return maps.Clone(m.ready), nil
	}
	workloads, err := m.session.Workloads(ctx)
	if err != nil {
		return nil, err
	}
	m.ready, m.readyAt = make(map[string]int), time.Now()
	for _, w := range workloads {
		if slices.Contains(m.services, w.GetName()) {
			m.ready[w.GetName()] = int(w.GetReady())
		}
	}
	return maps.Clone(m.ready), nil
}

// SetKnob implements experiment.Mesh.
func (m *mesh) SetKnob(ctx context.Context, service, name, value string) error {
	_, err := m.faults.SetKnob(ctx, &faultv1.SetKnobRequest{Service: service, Name: name, Value: value})
	return err
}

// BeginFault implements experiment.Mesh.
func (m *mesh) BeginFault(ctx context.Context, f fault.Fault, d time.Duration) error {
	if f.Kill != nil {
		m.mu.Lock()
		m.killed[f.Kill.Service] = true
		m.mu.Unlock()
	}
	req := &faultv1.InjectFaultRequest{Fault: f.Proto()}
	if d > 0 {
		req.Duration = durationpb.New(d)
	}
	_, err := m.faults.InjectFault(ctx, req)
	return err
}

// SetReplicas implements experiment.Mesh.
func (m *mesh) SetReplicas(ctx context.Context, service string, n int) (previous int, err error) {
	previous, err = m.session.SetReplicas(ctx, service, n)
	if err == nil {
		m.mu.Lock()
		m.byHand = append(m.byHand, change{time.Now(), service, n})
		m.mu.Unlock()
	}
	return previous, err
}

// Observed implements experiment.Mesh.
func (m *mesh) Observed(ctx context.Context) (experiment.Observed, error) {
	targets, err := m.targets(ctx)
	if err != nil {
		return experiment.Observed{}, err
	}
	cut, err := m.cut(ctx)
	if err != nil {
		return experiment.Observed{}, err
	}
	// The API server still has those of the mesh before.
	events := slices.DeleteFunc(m.journal.sorted(), func(e autoscaler.Event) bool { return e.At.Before(m.since) })
	m.mu.Lock()
	defer m.mu.Unlock()
	return experiment.Observed{
		Metrics: m.metrics, Since: m.since, Services: m.services, HostCPU: m.cpu.shares(),
		Rescales: rescales(events, targets, m.wanted, m.byHand), Events: events, Cut: cut,
	}, nil
}

// cut are the services of which a replica was killed, or ended by itself: what it
// had counted last nobody knows.
func (m *mesh) cut(ctx context.Context) (map[string]bool, error) {
	workloads, err := m.session.Workloads(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	cut := maps.Clone(m.killed)
	for _, w := range workloads {
		for _, r := range w.GetReplicas() {
			if r.GetRestarts() > 0 {
				cut[w.GetName()] = true
			}
		}
	}
	return cut, nil
}

// clearPatience bounds how long faults may take to end when nobody waits for more.
const clearPatience = 15 * time.Second

// Down implements experiment.Mesh: it puts faults and knobs back, also when ctx has
// ended, for nobody else would, and lets the mesh run.
func (m *mesh) Down(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), clearPatience)
		defer cancel()
	}
	_, err := m.faults.ClearFault(ctx, &faultv1.ClearFaultRequest{})
	_, knobErr := m.faults.ResetKnobs(ctx, &faultv1.ResetKnobsRequest{})
	m.end()
	err = errors.Join(err, knobErr, m.session.Close())
	if err != nil {
		return fmt.Errorf("%w; `spillway fault list --engine kube` and `spillway knobs --engine kube` tell what is in force", err)
	}
	return nil
}

// change is a number of replicas that was set by hand.
type change struct {
	at      time.Time
	service string
	to      int
}

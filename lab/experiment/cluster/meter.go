package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"spillway.dev/lab/engine/kube"
	"spillway.dev/lab/experiment"
)

// meterEvery is how often nodes are asked for their CPU: as often as a kubelet
// counts it.
const meterEvery = 10 * time.Second

// meter keeps how busy the busiest node was. Safe for concurrent use.
type meter struct {
	mu   sync.Mutex
	last map[string]kube.CPU
	all  []experiment.Busy
}

func newMeter() *meter { return &meter{} }

// follow asks until ctx ends. Who may not ask, or gets no answer, learns nothing: a
// run of which nobody knows how busy the nodes were is not valid, and says so.
func (m *meter) follow(ctx context.Context, ask func(context.Context) (map[string]kube.CPU, error)) {
	tick := time.NewTicker(meterEvery)
	defer tick.Stop()
	for {
		if nodes, err := ask(ctx); err == nil {
			m.add(nodes)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// add takes a reading. A share is of the time between a node's last two.
func (m *meter) add(nodes map[string]kube.CPU) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var busiest experiment.Busy
	for name, now := range nodes {
		before, known := m.last[name]
		length := now.At.Sub(before.At).Seconds()
		if !known || length <= 0 || now.Used < before.Used { // the first, the same again, or a node that was started anew
			continue
		}
		if share := (now.Used - before.Used) / length / now.Cores; busiest.At.IsZero() || share > busiest.Share {
			busiest = experiment.Busy{At: before.At, Share: share}
		}
	}
	m.last = nodes
	if !busiest.At.IsZero() && (len(m.all) == 0 || busiest.At.After(m.all[len(m.all)-1].At)) {
		m.all = append(m.all, busiest)
	}
}

// shares are those until now, in order of time.
func (m *meter) shares() []experiment.Busy {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

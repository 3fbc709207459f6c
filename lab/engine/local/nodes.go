package local

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"spillway.dev/lab/nodepool"
)

// unlimitedNode is the node of a mesh without modelled ones.
const unlimitedNode = "localhost"

// The label of a node that tells how it was bought, and its values.
const (
	capacityLabel    = "spillway.dev/capacity"
	capacitySpot     = "spot"
	capacityOnDemand = "on-demand"
)

// openPool makes the modelled nodes, where there are to be some.
func (e *Engine) openPool() error {
	if e.options.Nodes == nil {
		return nil
	}
	if err := e.options.Nodes.Validate(); err != nil {
		return err
	}
	pool, err := nodepool.New(e.options.Nodes.Faster(e.options.timelapse()), e.started)
	e.pool = pool
	return err
}

// schedule gives pods that wait a node and takes the nodes on to now. It returns when
// the nodes change by themselves next, or zero. Engine.mu is held.
func (e *Engine) schedule(now time.Time) time.Time {
	if e.stopping {
		return time.Time{}
	}
	var pods []*pod
	for _, d := range e.sorted() {
		for _, p := range d.pods {
			if p.status.node != "" || !p.status.terminating {
				pods = append(pods, p)
			}
		}
	}
	if e.pool == nil {
		for _, p := range pods {
			p.bind(unlimitedNode, now)
		}
		return time.Time{}
	}
	slices.SortStableFunc(pods, func(a, b *pod) int { return a.created.Compare(b.created) })
	byName := make(map[string]*pod, len(pods))
	seen := make([]nodepool.Pod, len(pods))
	for i, p := range pods {
		byName[p.name] = p
		seen[i] = nodepool.Pod{Name: p.name, CPU: p.request(), Node: p.status.node}
	}
	plan := e.pool.Step(now, seen)
	for _, text := range plan.News {
		e.events.post(Event{Kind: EventNode, Text: text})
	}
	for name, node := range plan.Bind {
		byName[name].bind(node, now)
	}
	for name, why := range plan.Waits {
		if p := byName[name]; p.status.reason != why {
			p.status.reason = why
			e.events.post(Event{Kind: EventReplica, Workload: p.workload, Replica: name, Text: "pending: " + why})
		}
	}
	for _, name := range plan.Evict {
		e.deletePod(byName[name], false)
	}
	for _, name := range plan.Kill {
		p := byName[name]
		e.deletePod(p, true)
		p.kill()
	}
	if len(plan.Evict)+len(plan.Kill) > 0 {
		e.wakeUp() // others are made in their place
	}
	return plan.Next
}

// bind puts the pod on a node, where its container may start; a pod that has one
// stays there. Engine.mu is held.
func (p *pod) bind(node string, now time.Time) {
	s := &p.status
	if s.node != "" {
		return
	}
	s.node, s.boundAt, s.readyChanged, s.reason = node, now, now, ""
	close(p.bound)
}

// request is the CPU that the pod wants of its node, in thousandths of a core. As in
// Kubernetes a limit stands in for a request that is not made.
func (p *pod) request() int64 {
	resources := p.container().Resources
	cpu, ok := resources.Requests[corev1.ResourceCPU]
	if !ok {
		cpu = resources.Limits[corev1.ResourceCPU]
	}
	return cpu.MilliValue()
}

// NodesPaid is how many nodes are paid for: those that are there, and those that
// were asked for.
func (e *Engine) NodesPaid() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pool == nil {
		return 1
	}
	return len(e.pool.Nodes())
}

// nodeObjects are the nodes as Kubernetes would tell them: those that have
// joined. Engine.mu is held.
func (e *Engine) nodeObjects(now time.Time) []*corev1.Node {
	if e.pool == nil {
		return []*corev1.Node{nodeObject(unlimitedNode, e.started)}
	}
	all := []*corev1.Node{}
	for _, n := range e.pool.Nodes() {
		if n.Ready.After(now) {
			continue
		}
		object := nodeObject(n.Name, n.Ready)
		object.Labels[capacityLabel] = capacityOnDemand
		if n.Spot {
			object.Labels[capacityLabel] = capacitySpot
		}
		object.Spec.Unschedulable = !n.Gone.IsZero()
		cpu := corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(n.CPU, resource.DecimalSI)}
		object.Status.Capacity, object.Status.Allocatable = cpu, cpu.DeepCopy()
		all = append(all, object)
	}
	return all
}

package nodepool

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Pod is a pod as the pool sees it.
type Pod struct {
	Name string
	// CPU is what it requests, in thousandths of a core.
	CPU int64
	// Node is where it is, empty while it is pending. A pod that is on its way out
	// still takes its place.
	Node string
}

// Node is one machine.
type Node struct {
	Name string
	// CPU is what it can allocate, in thousandths of a core.
	CPU int64
	// Spot says that the provider may take it back.
	Spot bool
	// Asked is when it was asked for, from when on it costs.
	Asked time.Time
	// Ready is when it joins, or joined, the cluster.
	Ready time.Time
	// Gone is when it will be taken back; zero while no warning was given. From the
	// warning on it takes no new pod.
	Gone time.Time

	empty time.Time // since when it has had no pod
}

// joined tells whether the node is part of the cluster.
func (n *Node) joined(now time.Time) bool { return !n.Ready.After(now) }

// open tells whether the node takes pods.
func (n *Node) open(now time.Time) bool { return n.joined(now) && n.Gone.IsZero() }

// Plan is what a step leads to.
type Plan struct {
	// Bind says which node a pending pod gets.
	Bind map[string]string
	// Waits says of each pod that stays pending why, as the scheduler would.
	Waits map[string]string
	// Evict are pods to delete gracefully: their node will be taken back.
	Evict []string
	// Kill are pods whose node is gone: nothing of them runs on.
	Kill []string
	// News says in words what became of nodes.
	News []string
	// Next is when to take a step though no pod changes until then; zero is never.
	Next time.Time
}

// Pool is the nodes. Not safe for concurrent use.
type Pool struct {
	config  Config
	nodes   []*Node // the oldest first
	count   int     // of all nodes that ever were
	reclaim time.Time
}

// New returns a pool with its first nodes ready at now.
func New(c Config, now time.Time) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{config: c.Faster(1)}
	for range c.Min {
		p.add(now, now)
	}
	if c.Spot != nil {
		p.reclaim = now.Add(c.Spot.Every)
	}
	return p, nil
}

// Nodes tells about every node, those on their way included, the oldest first.
func (p *Pool) Nodes() []Node {
	all := make([]Node, len(p.nodes))
	for i, n := range p.nodes {
		all[i] = *n
	}
	return all
}

func (p *Pool) add(asked, ready time.Time) *Node {
	p.count++
	steady := 0
	for _, n := range p.nodes {
		if !n.Spot {
			steady++
		}
	}
	n := &Node{
		Name: fmt.Sprintf("node-%d", p.count), CPU: int64(math.Round(p.config.CPU * 1000)),
		Spot: p.config.Spot != nil && steady >= p.config.Spot.OnDemand, Asked: asked, Ready: ready,
	}
	p.nodes = append(p.nodes, n)
	return n
}

// Step takes the pool on to now: nodes that are taken back, pods that are placed,
// nodes that are added and removed, in this order. pods are all pods, the oldest
// first. The plan counts as carried out: a pod that it binds has its node in the
// pods of the next step.
//
// A pod gets the oldest node with room for its request. The default of Kubernetes'
// scheduler, the least allocated node, spreads pods over all nodes; the cluster
// autoscaler makes up for it by moving pods off a node that is little used. This one
// moves none: it removes empty nodes only, so pods must be packed for one to become
// empty.
// https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/
func (p *Pool) Step(now time.Time, pods []Pod) Plan {
	plan := Plan{Bind: map[string]string{}, Waits: map[string]string{}}
	p.takeBack(now, pods, &plan)
	p.place(now, pods, &plan)
	p.grow(now, pods, &plan)
	p.shrink(now, pods, &plan)
	for _, n := range p.nodes {
		if n.Ready.After(now) {
			plan.at(n.Ready)
		}
		if !n.Gone.IsZero() {
			plan.at(n.Gone)
		}
	}
	if p.config.Spot != nil {
		plan.at(p.reclaim)
	}
	return plan
}

func (plan *Plan) at(t time.Time) {
	if plan.Next.IsZero() || t.Before(plan.Next) {
		plan.Next = t
	}
}

// takeBack warns spot nodes in turn, and removes those whose notice is over.
func (p *Pool) takeBack(now time.Time, pods []Pod, plan *Plan) {
	for spot := p.config.Spot; spot != nil && !p.reclaim.After(now); p.reclaim = p.reclaim.Add(spot.Every) {
		i := slices.IndexFunc(p.nodes, func(n *Node) bool { return n.Spot && n.open(now) })
		if i < 0 {
			continue
		}
		n := p.nodes[i]
		n.Gone = p.reclaim.Add(spot.Notice)
		plan.News = append(plan.News, fmt.Sprintf("%s is a spot node and will be taken back in %s", n.Name, n.Gone.Sub(now).Round(time.Millisecond)))
		for _, pod := range pods {
			if pod.Node == n.Name {
				plan.Evict = append(plan.Evict, pod.Name)
			}
		}
	}
	p.nodes = slices.DeleteFunc(p.nodes, func(n *Node) bool {
		if n.Gone.IsZero() || n.Gone.After(now) {
			return false
		}
		plan.News = append(plan.News, n.Name+" was taken back")
		for _, pod := range pods {
			if pod.Node == n.Name {
				plan.Kill = append(plan.Kill, pod.Name)
			}
		}
		return true
	})
}

// place gives pending pods a node.
func (p *Pool) place(now time.Time, pods []Pod, plan *Plan) {
	free := map[string]int64{}
	for _, n := range p.nodes {
		if n.open(now) {
			free[n.Name] = n.CPU
		}
	}
	for _, pod := range pods {
		if _, open := free[pod.Node]; open {
			free[pod.Node] -= pod.CPU
		}
	}
	for _, pod := range pods {
		if pod.Node != "" {
			continue
		}
		i := slices.IndexFunc(p.nodes, func(n *Node) bool { return n.open(now) && free[n.Name] >= pod.CPU })
		if i < 0 {
			plan.Waits[pod.Name] = fmt.Sprintf("0/%d nodes are available: insufficient cpu for a request of %dm", len(free), pod.CPU)
			continue
		}
		free[p.nodes[i].Name] -= pod.CPU
		plan.Bind[pod.Name] = p.nodes[i].Name
	}
}

// standing is how many nodes there are that are not being taken back.
func (p *Pool) standing() int {
	count := 0
	for _, n := range p.nodes {
		if n.Gone.IsZero() {
			count++
		}
	}
	return count
}

// grow asks for as many nodes as the pods that wait would fill beyond those that are
// on their way, up to the maximum. A pod that is larger than a node asks for none.
func (p *Pool) grow(now time.Time, pods []Pod, plan *Plan) {
	var coming []int64 // what is left on each node that is on its way
	for _, n := range p.nodes {
		if !n.joined(now) {
			coming = append(coming, n.CPU)
		}
	}
	size := int64(math.Round(p.config.CPU * 1000))
	added := 0
	ask := func() {
		n := p.add(now, now.Add(p.config.ProvisionDelay))
		coming = append(coming, n.CPU)
		added++
		plan.at(n.Ready)
	}
	for _, pod := range pods {
		if plan.Waits[pod.Name] == "" {
			continue
		}
		if pod.CPU > size {
			plan.Waits[pod.Name] = fmt.Sprintf("it requests %dm of CPU and a node has %dm: it never fits", pod.CPU, size)
			continue
		}
		i := slices.IndexFunc(coming, func(left int64) bool { return left >= pod.CPU })
		if i < 0 {
			if p.standing() >= p.config.Max {
				continue
			}
			ask()
			i = len(coming) - 1
		}
		coming[i] -= pod.CPU
	}
	// What was taken back is replaced up to the minimum, wanted or not.
	for p.standing() < p.config.Min {
		ask()
	}
	if added > 0 {
		plan.News = append(plan.News, fmt.Sprintf("%d more nodes are asked for, ready in %s", added, p.config.ProvisionDelay.Round(time.Millisecond)))
	}
}

// shrink removes nodes that have been empty for long enough, the youngest first,
// down to the minimum.
func (p *Pool) shrink(now time.Time, pods []Pod, plan *Plan) {
	used := map[string]bool{}
	for _, pod := range pods {
		used[cmp.Or(pod.Node, plan.Bind[pod.Name])] = true
	}
	standing := p.standing()
	for i, n := range slices.Backward(p.nodes) {
		switch {
		case used[n.Name] || !n.open(now):
			n.empty = time.Time{}
			continue
		case n.empty.IsZero():
			n.empty = now
		}
		if p.config.EmptyFor == 0 || standing <= p.config.Min {
			continue
		}
		if over := n.empty.Add(p.config.EmptyFor); over.After(now) {
			plan.at(over)
			continue
		}
		p.nodes = slices.Delete(p.nodes, i, i+1)
		standing--
		plan.News = append(plan.News, n.Name+" was empty and is removed")
	}
}

package nodepool

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster carries out what the pool plans, as an engine does.
type cluster struct {
	t    *testing.T
	pool *Pool
	now  time.Time
	pods []Pod
	made int
	last Plan
}

func start(t *testing.T, c Config) *cluster {
	t.Helper()
	now := time.Unix(0, 0)
	pool, err := New(c, now)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, pool: pool, now: now}
}

func (c *cluster) step() Plan {
	c.t.Helper()
	c.last = c.pool.Step(c.now, slices.Clone(c.pods))
	for i, p := range c.pods {
		if node := c.last.Bind[p.Name]; node != "" {
			if p.Node != "" {
				c.t.Errorf("%s is on %s and is bound to %s", p.Name, p.Node, node)
			}
			c.pods[i].Node = node
		}
	}
	gone := slices.Concat(c.last.Evict, c.last.Kill)
	c.pods = slices.DeleteFunc(c.pods, func(p Pod) bool { return slices.Contains(gone, p.Name) })
	// No node is ever given more than it has.
	used := map[string]int64{}
	for _, p := range c.pods {
		used[p.Node] += p.CPU
	}
	for _, n := range c.pool.Nodes() {
		if used[n.Name] > n.CPU {
			c.t.Errorf("%s has %dm and pods of %dm", n.Name, n.CPU, used[n.Name])
		}
	}
	return c.last
}

// run follows the pool's own times up to a moment after the start.
func (c *cluster) run(until time.Duration) {
	c.t.Helper()
	end := time.Unix(0, 0).Add(until)
	for c.step(); !c.last.Next.IsZero() && !c.last.Next.After(end); c.step() {
		if c.last.Next.Before(c.now) {
			c.t.Fatalf("at %v the next step is due %v", c.at(), c.last.Next.Sub(time.Unix(0, 0)))
		}
		c.now = c.last.Next
	}
	c.now = end
	c.step()
}

func (c *cluster) at() time.Duration { return c.now.Sub(time.Unix(0, 0)) }

func (c *cluster) add(n int, cpu int64) {
	for range n {
		c.made++
		c.pods = append(c.pods, Pod{Name: fmt.Sprintf("p%d", c.made), CPU: cpu})
	}
}

// nodes tells how many pods each node has, and which nodes are not ready yet.
func (c *cluster) nodes() string {
	var text []string
	for _, n := range c.pool.Nodes() {
		count := 0
		for _, p := range c.pods {
			if p.Node == n.Name {
				count++
			}
		}
		switch {
		case !n.joined(c.now):
			text = append(text, n.Name+":coming")
		case !n.Gone.IsZero():
			text = append(text, fmt.Sprintf("%s:%d,leaving", n.Name, count))
		default:
			text = append(text, fmt.Sprintf("%s:%d", n.Name, count))
		}
	}
	return strings.Join(text, " ")
}

func (c *cluster) want(nodes string) {
	c.t.Helper()
	if got := c.nodes(); got != nodes {
		c.t.Errorf("after %v the nodes are %q, want %q", c.at(), got, nodes)
	}
}

func TestPodsFillTheOldestNodeFirst(t *testing.T) {
	c := start(t, Config{CPU: 1, Min: 3, Max: 3})
	c.add(3, 400)
	c.add(1, 200)
	c.step()
	// Two of 400m, and 200m beside them; the third of 400m has no room there.
	c.want("node-1:3 node-2:1 node-3:0")
	// A pod that goes leaves its place to the next.
	c.pods = slices.Delete(c.pods, 0, 1)
	c.add(1, 300)
	c.step()
	c.want("node-1:3 node-2:1 node-3:0")
	// One without a request fits everywhere.
	c.add(1, 0)
	c.step()
	c.want("node-1:4 node-2:1 node-3:0")
}

func TestPendingPodsBringNodes(t *testing.T) {
	c := start(t, Config{CPU: 1, Min: 1, Max: 4, ProvisionDelay: time.Minute})
	c.add(5, 500)
	plan := c.step()
	c.want("node-1:2 node-2:coming node-3:coming")
	waiting := slices.Sorted(maps.Keys(plan.Waits))
	if !slices.Equal(waiting, []string{"p3", "p4", "p5"}) || !strings.Contains(plan.Waits["p3"], "0/1 nodes are available: insufficient cpu") {
		t.Errorf("pods wait %v", plan.Waits)
	}
	if got := plan.Next.Sub(c.now); got != time.Minute {
		t.Errorf("the next step is due after %v, want when the nodes are ready", got)
	}
	// Asking twice must not bring them twice; one more pod finds room on the last.
	c.add(1, 500)
	c.now = c.now.Add(30 * time.Second)
	c.step()
	c.want("node-1:2 node-2:coming node-3:coming")
	// The next one does not, and gets a node of its own half a minute later.
	c.add(1, 500)
	c.step()
	c.want("node-1:2 node-2:coming node-3:coming node-4:coming")
	c.run(time.Minute)
	c.want("node-1:2 node-2:2 node-3:2 node-4:coming")
	c.run(90 * time.Second)
	c.want("node-1:2 node-2:2 node-3:2 node-4:1")
	// That is the maximum.
	c.add(2, 500)
	plan = c.step()
	c.want("node-1:2 node-2:2 node-3:2 node-4:2")
	if len(plan.Waits) != 1 || !plan.Next.IsZero() {
		t.Errorf("pods wait %v until %v, want one for ever", plan.Waits, plan.Next)
	}
}

func TestPodLargerThanANodeBringsNone(t *testing.T) {
	c := start(t, Config{CPU: 1, Min: 0, Max: 4, ProvisionDelay: time.Minute})
	c.add(1, 1001)
	plan := c.step()
	c.want("")
	if !strings.Contains(plan.Waits["p1"], "1001m of CPU and a node has 1000m: it never fits") {
		t.Errorf("waits %v", plan.Waits)
	}
}

func TestNodesThatComeAtOnce(t *testing.T) {
	c := start(t, Config{CPU: 1, Min: 0, Max: 4})
	c.add(3, 1000)
	c.run(0)
	c.want("node-1:1 node-2:1 node-3:1")
}

func TestEmptyNodesGo(t *testing.T) {
	c := start(t, Config{CPU: 1, Min: 1, Max: 4, ProvisionDelay: time.Minute, EmptyFor: 10 * time.Minute})
	c.add(4, 1000)
	c.run(time.Minute)
	c.want("node-1:1 node-2:1 node-3:1 node-4:1")
	// The first three pods go: three nodes are empty, and one of them is used again
	// before its time is over.
	c.pods = c.pods[3:]
	c.run(5 * time.Minute)
	c.want("node-1:0 node-2:0 node-3:0 node-4:1")
	c.add(1, 1000)
	c.run(6 * time.Minute)
	c.pods = c.pods[:1]
	c.run(11 * time.Minute)
	c.want("node-1:0 node-4:1")
	// It was empty only since the second pod had gone.
	c.run(16*time.Minute - time.Second)
	c.want("node-1:0 node-4:1")
	c.run(16 * time.Minute)
	c.want("node-4:1")
	// The minimum stays.
	c.pods = nil
	c.run(time.Hour)
	c.want("node-4:0")
}

func TestSpotNodesAreTakenBackInTurn(t *testing.T) {
	c := start(t, Config{
		CPU: 1, Min: 1, Max: 3, ProvisionDelay: time.Minute,
		Spot: &Spot{OnDemand: 1, Every: 10 * time.Minute},
	})
	c.add(3, 1000)
	c.run(9 * time.Minute)
	c.want("node-1:1 node-2:1 node-3:1")
	spot := []bool{}
	for _, n := range c.pool.Nodes() {
		spot = append(spot, n.Spot)
	}
	if !slices.Equal(spot, []bool{false, true, true}) {
		t.Errorf("spot nodes %v, want all but the first", spot)
	}
	// The warning: the pods are evicted at once, and nothing is placed there again.
	c.now = time.Unix(0, 0).Add(10 * time.Minute)
	plan := c.step()
	if !slices.Equal(plan.Evict, []string{"p2"}) || len(plan.Kill) != 0 {
		t.Errorf("evicted %v, killed %v, want p2 evicted", plan.Evict, plan.Kill)
	}
	c.add(1, 1000) // in its place
	c.step()
	c.want("node-1:1 node-2:0,leaving node-3:1 node-4:coming")
	c.run(11 * time.Minute)
	c.want("node-1:1 node-2:0,leaving node-3:1 node-4:1")
	c.run(12*time.Minute - time.Second)
	c.want("node-1:1 node-2:0,leaving node-3:1 node-4:1")
	c.run(12 * time.Minute)
	c.want("node-1:1 node-3:1 node-4:1")
	c.now = time.Unix(0, 0).Add(20 * time.Minute)
	c.step()
	c.want("node-1:1 node-3:0,leaving node-4:1")
}

func TestWhatOutlivesTheNoticeIsKilled(t *testing.T) {
	now := time.Unix(0, 0)
	pool, err := New(Config{CPU: 1, Min: 1, Max: 1, Spot: &Spot{Every: time.Minute, Notice: time.Second}}, now)
	if err != nil {
		t.Fatal(err)
	}
	stubborn := []Pod{{Name: "p", CPU: 1, Node: "node-1"}}
	if plan := pool.Step(now.Add(time.Minute), stubborn); !slices.Equal(plan.Evict, []string{"p"}) || !plan.Next.Equal(now.Add(time.Minute)) {
		t.Errorf("plan %+v: p evicted and the minimum replaced at once wanted", plan)
	}
	if plan := pool.Step(now.Add(61*time.Second), stubborn); !slices.Equal(plan.Kill, []string{"p"}) {
		t.Errorf("plan %+v: p killed wanted", plan)
	}
	if nodes := pool.Nodes(); len(nodes) != 1 || nodes[0].Name != "node-2" {
		t.Errorf("nodes %+v: the one that replaces the first wanted", nodes)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{CPU: 2, Min: 1, Max: 4, Spot: &Spot{Every: time.Minute}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"cpu is 0":               func(c *Config) { c.CPU = 0 },
		"min is -1":              func(c *Config) { c.Min = -1 },
		"max is 0":               func(c *Config) { c.Min, c.Max = 0, 0 },
		"max is 3":               func(c *Config) { c.Min, c.Max = 4, 3 },
		"provision-delay is -1s": func(c *Config) { c.ProvisionDelay = -time.Second },
		"empty-for is -1s":       func(c *Config) { c.EmptyFor = -time.Second },
		"spot.every is 0s":       func(c *Config) { c.Spot = &Spot{} },
		"spot.notice is -1s":     func(c *Config) { c.Spot = &Spot{Every: 1, Notice: -time.Second} },
		"spot.on-demand is -1":   func(c *Config) { c.Spot = &Spot{Every: 1, OnDemand: -1} },
	} {
		c := good
		change(&c)
		if _, err := New(c, time.Time{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestFaster(t *testing.T) {
	c := Config{ProvisionDelay: time.Minute, EmptyFor: 10 * time.Minute, Spot: &Spot{Every: time.Hour}}
	got := c.Faster(10)
	if got.ProvisionDelay != 6*time.Second || got.EmptyFor != time.Minute || *got.Spot != (Spot{Every: 6 * time.Minute, Notice: 12 * time.Second}) {
		t.Errorf("got %+v with %+v", got, got.Spot)
	}
	if c.Spot.Every != time.Hour || c.Spot.Notice != 0 {
		t.Errorf("what it was made from has changed: %+v", c.Spot)
	}
}

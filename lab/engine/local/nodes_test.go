package local

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/nodepool"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// onNodes gives every pod a request of 400m and the mesh modelled nodes.
func onNodes(c nodepool.Config, timelapse float64) func(*Options) {
	return func(o *Options) {
		o.Nodes, o.Timelapse = &c, timelapse
		o.Variant = manifest.Variant{Patches: []manifest.Patch{{
			Target: manifest.Selector{Kind: "Deployment"},
			Patch:  "- {op: add, path: /spec/template/spec/containers/0/resources, value: {requests: {cpu: 400m}}}\n",
		}}}
	}
}

// byNode counts the pods on each node, the pending ones under "".
func (b *bench) byNode() map[string]int {
	count := map[string]int{}
	for _, p := range b.engine.Snapshot().Pods {
		count[p.Spec.NodeName]++
	}
	return count
}

func TestPodsWaitForANode(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"), onNodes(nodepool.Config{
		// The caller and two echo replicas take 1200m of it.
		CPU: 1.2, Min: 1, Max: 2, ProvisionDelay: 30 * time.Second, EmptyFor: 10 * time.Second,
	}, 10))
	if got := b.byNode(); got["node-1"] != 3 {
		t.Fatalf("pods by node %v, want three on the first", got)
	}
	if _, err := b.engine.SetReplicas("echo", 3); err != nil {
		t.Fatal(err)
	}
	var waits *corev1.Pod
	until(t, "the third waits", func() bool {
		i := slices.IndexFunc(b.engine.Snapshot().Pods, func(p *corev1.Pod) bool { return p.Spec.NodeName == "" })
		if i >= 0 {
			waits = b.engine.Snapshot().Pods[i]
		}
		return i >= 0 && b.said(EventReplica, "insufficient cpu")
	})
	if c := waits.Status.Conditions; waits.Status.Phase != corev1.PodPending || len(c) != 1 || c[0].Type != corev1.PodScheduled ||
		c[0].Status != corev1.ConditionFalse || c[0].Reason != "Unschedulable" || waits.Status.StartTime != nil {
		t.Errorf("the pod that waits has the status %+v", waits.Status)
	}
	if r := b.workload("echo").GetReplicas()[2]; r.GetPhase() == enginev1.ReplicaPhase_REPLICA_PHASE_PENDING && (r.GetPid() != 0 || r.GetNode() != "" || !strings.Contains(r.GetReason(), "insufficient cpu")) {
		t.Errorf("the replica that waits is %v", r)
	}
	b.ready()
	if got := b.byNode(); got["node-2"] != 1 || !b.said(EventNode, "1 more nodes are asked for, ready in 3s") {
		t.Errorf("pods by node %v, want one on the second", got)
	}
	if r := b.workload("echo").GetReplicas()[2]; r.GetNode() != "node-2" {
		t.Errorf("the third replica is %v", r)
	}
	nodes := b.engine.Snapshot().Nodes
	if len(nodes) != 2 || nodes[1].Status.Allocatable.Cpu().MilliValue() != 1200 || nodes[1].Labels[capacityLabel] != capacityOnDemand {
		t.Errorf("nodes %v", nodes)
	}
	// The pod that came last goes first, and its node after it.
	if _, err := b.engine.SetReplicas("echo", 2); err != nil {
		t.Fatal(err)
	}
	until(t, "the second node is removed", func() bool { return len(b.engine.Snapshot().Nodes) == 1 })
	if got := b.byNode(); got["node-1"] != 3 || len(got) != 1 {
		t.Errorf("pods by node %v, want three on the first", got)
	}
}

func TestPodsLeaveANodeThatIsTakenBack(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"), onNodes(nodepool.Config{
		CPU: 1.2, Min: 1, Max: 1, Spot: &nodepool.Spot{Every: 100 * time.Second, Notice: 20 * time.Second},
	}, 10))
	before := b.workload("echo").GetReplicas()
	until(t, "the node is gone", func() bool { return b.said(EventNode, "node-1 was taken back") })
	until(t, "all run on the next one", func() bool {
		got := b.byNode()
		return got["node-2"] == 3 && len(got) == 1
	})
	for _, r := range b.workload("echo").GetReplicas() {
		if slices.ContainsFunc(before, func(old *enginev1.Replica) bool { return old.GetName() == r.GetName() }) {
			t.Errorf("%s has outlived its node", r.GetName())
		}
	}
}

func TestDownWithPendingPods(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"), onNodes(nodepool.Config{CPU: 1.2, Min: 1, Max: 1}, 0))
	if _, err := b.engine.SetReplicas("echo", 5); err != nil {
		t.Fatal(err)
	}
	until(t, "three wait", func() bool { return b.byNode()[""] == 3 })
	// Those that wait go first.
	if _, err := b.engine.SetReplicas("echo", 2); err != nil {
		t.Fatal(err)
	}
	until(t, "none waits", func() bool { return b.byNode()[""] == 0 })
	b.ready()
	if r := b.workload("echo").GetReplicas(); len(r) != 2 || r[0].GetRestarts() != 0 {
		t.Errorf("replicas %v", r)
	}
	if _, err := b.engine.SetReplicas("echo", 5); err != nil {
		t.Fatal(err)
	}
	until(t, "three wait", func() bool { return b.byNode()[""] == 3 })
	if err := b.engine.Down(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUpRefusesWrongNodes(t *testing.T) {
	b := &bench{t: t, root: newRoot(t), state: filepath.Join(t.TempDir(), "state"), change: []func(*Options){onNodes(nodepool.Config{Max: 1}, 0)}}
	if _, err := Up(t.Context(), b.options()); err == nil || !strings.Contains(err.Error(), "nodes: cpu is 0") {
		t.Errorf("up: %v", err)
	}
}

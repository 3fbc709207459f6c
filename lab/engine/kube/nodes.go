package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Nodes is what the cluster runs on.
type Nodes struct {
	// Version is the API server's, such as v1.36.3.
	Version string
	Count   int
	// Cores and Memory, in bytes, are of all nodes together.
	Cores, Memory float64
}

// Nodes tells of the nodes of the whole cluster.
func (c *Cluster) Nodes(ctx context.Context) (Nodes, error) {
	version, err := c.client.Discovery().ServerVersion()
	if err != nil {
		return Nodes{}, fmt.Errorf("ask context %s for its version: %w", c.context, err)
	}
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return Nodes{}, fmt.Errorf("list the nodes of context %s: %w", c.context, err)
	}
	n := Nodes{Version: version.GitVersion, Count: len(list.Items)}
	for i := range list.Items {
		n.Cores += list.Items[i].Status.Capacity.Cpu().AsApproximateFloat64()
		n.Memory += list.Items[i].Status.Capacity.Memory().AsApproximateFloat64()
	}
	return n, nil
}

// CPU is how much CPU time a node has used until a time, in seconds of one core.
type CPU struct {
	At    time.Time
	Used  float64
	Cores float64
}

// CPUs asks the kubelet of every node what its node's programs have used, all of
// them, not only pods, by node. Whoever asks needs the right nodes/proxy.
func (c *Cluster) CPUs(ctx context.Context) (map[string]CPU, error) {
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes of context %s: %w", c.context, err)
	}
	all := make(map[string]CPU, len(list.Items))
	for i := range list.Items {
		node := &list.Items[i]
		text, err := c.client.CoreV1().RESTClient().Get().Resource("nodes").Name(node.Name).SubResource("proxy").Suffix("stats/summary").DoRaw(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask the kubelet of node %s for its CPU: %w", node.Name, err)
		}
		if all[node.Name], err = cpuOf(text, node); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// cpuOf reads kubelet's summary (k8s.io/kubelet/pkg/apis/stats/v1alpha1).
func cpuOf(text []byte, node *corev1.Node) (CPU, error) {
	var summary struct {
		Node struct {
			CPU struct {
				Time time.Time `json:"time"`
				Used *uint64   `json:"usageCoreNanoSeconds"`
			} `json:"cpu"`
		} `json:"node"`
	}
	if err := json.Unmarshal(text, &summary); err != nil {
		return CPU{}, fmt.Errorf("what the kubelet of node %s tells: %w", node.Name, err)
	}
	cpu, cores := summary.Node.CPU, node.Status.Capacity.Cpu().AsApproximateFloat64()
	if cpu.Used == nil || cpu.Time.IsZero() || cores <= 0 {
		return CPU{}, fmt.Errorf("the kubelet of node %s does not tell how much CPU was used", node.Name)
	}
	return CPU{At: cpu.Time, Used: float64(*cpu.Used) / 1e9, Cores: cores}, nil
}

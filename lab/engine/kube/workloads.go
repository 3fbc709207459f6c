package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"google.golang.org/protobuf/types/known/timestamppb"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// state is what runs in the namespace, as it was read.
type state struct {
	deployments  []appsv1.Deployment
	statefulSets []appsv1.StatefulSet
	pods         []corev1.Pod
}

// read lists the workloads and the pods of the namespace.
func (c *Cluster) read(ctx context.Context) (state, error) {
	var s state
	deployments, err := c.client.AppsV1().Deployments(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, fmt.Errorf("list the Deployments: %w", err)
	}
	sets, err := c.client.AppsV1().StatefulSets(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, fmt.Errorf("list the StatefulSets: %w", err)
	}
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, fmt.Errorf("list the pods: %w", err)
	}
	return state{deployments.Items, sets.Items, pods.Items}, nil
}

// Workloads are the Deployments and StatefulSets of the namespace with their pods,
// by name. Addresses are those of pods, within the cluster.
func (c *Cluster) Workloads(ctx context.Context) ([]*enginev1.Workload, error) {
	s, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	return s.workloads(), nil
}

// workloads are the Deployments and StatefulSets with their pods, by name. A
// replica's admin address is that of its pod.
func (s state) workloads() []*enginev1.Workload {
	var out []*enginev1.Workload
	for i := range s.deployments {
		d := &s.deployments[i]
		w := &enginev1.Workload{Name: d.Name, Desired: wanted(d.Spec.Replicas), Ready: d.Status.ReadyReplicas, Updated: d.Status.UpdatedReplicas}
		w.Replicas = s.replicas(d.Spec.Selector)
		out = append(out, w)
	}
	for i := range s.statefulSets {
		d := &s.statefulSets[i]
		w := &enginev1.Workload{Name: d.Name, Desired: wanted(d.Spec.Replicas), Ready: d.Status.ReadyReplicas, Updated: d.Status.UpdatedReplicas}
		w.Replicas = s.replicas(d.Spec.Selector)
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *enginev1.Workload) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

// wanted is what spec.replicas says: 1 when it says nothing.
func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// of are the pods that a selector names, the oldest first.
func (s state) of(selector *metav1.LabelSelector) []*corev1.Pod {
	match, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		match = labels.Nothing()
	}
	var out []*corev1.Pod
	for i := range s.pods {
		if match.Matches(labels.Set(s.pods[i].Labels)) {
			out = append(out, &s.pods[i])
		}
	}
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return out
}

func (s state) replicas(selector *metav1.LabelSelector) []*enginev1.Replica {
	var out []*enginev1.Replica
	for _, p := range s.of(selector) {
		out = append(out, replica(p))
	}
	return out
}

// podsOf are the pods of a workload, the oldest first; an error names the
// workloads that there are.
func (s state) podsOf(workload string) ([]*corev1.Pod, error) {
	var names []string
	for i := range s.deployments {
		if s.deployments[i].Name == workload {
			return s.of(s.deployments[i].Spec.Selector), nil
		}
		names = append(names, s.deployments[i].Name)
	}
	for i := range s.statefulSets {
		if s.statefulSets[i].Name == workload {
			return s.of(s.statefulSets[i].Spec.Selector), nil
		}
		names = append(names, s.statefulSets[i].Name)
	}
	return nil, unknownWorkload(workload, names)
}

// replica is a pod as the engine's API tells of replicas. It has no process of
// this machine.
func replica(p *corev1.Pod) *enginev1.Replica {
	r := &enginev1.Replica{
		Name: p.Name, Phase: enginev1.ReplicaPhase_REPLICA_PHASE_WAITING, Ready: ready(p), Node: p.Spec.NodeName,
		TemplateHash: cmp.Or(p.Labels[appsv1.DefaultDeploymentUniqueLabelKey], p.Labels[appsv1.ControllerRevisionHashLabelKey]),
		Reason:       p.Status.Reason,
	}
	for _, s := range p.Status.ContainerStatuses {
		r.Restarts += s.RestartCount
		switch {
		case s.State.Waiting != nil:
			r.Reason = s.State.Waiting.Reason
			if s.State.Waiting.Message != "" {
				r.Reason += ": " + s.State.Waiting.Message
			}
		case s.State.Terminated != nil:
			r.Reason = fmt.Sprintf("%s, exit code %d", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
		case s.State.Running != nil:
			r.StartedAt = timestamppb.New(s.State.Running.StartedAt.Time)
		}
	}
	switch {
	case p.DeletionTimestamp != nil:
		r.Phase = enginev1.ReplicaPhase_REPLICA_PHASE_TERMINATING
	case p.Spec.NodeName == "":
		r.Phase = enginev1.ReplicaPhase_REPLICA_PHASE_PENDING
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				r.Reason = c.Message
			}
		}
	case p.Status.Phase == corev1.PodRunning:
		r.Phase = enginev1.ReplicaPhase_REPLICA_PHASE_RUNNING
	}
	if p.Status.PodIP != "" {
		if port, err := containerPort(p, "grpc"); err == nil {
			r.GrpcAddress = fmt.Sprintf("%s:%d", p.Status.PodIP, port)
		}
		if port, err := containerPort(p, "admin"); err == nil {
			r.AdminAddress = fmt.Sprintf("%s:%d", p.Status.PodIP, port)
		}
	}
	return r
}

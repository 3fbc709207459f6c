package local

import (
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Namespace is where every object of the mesh is.
const Namespace = "spillway"

// Snapshot is the mesh as an API server would tell about it at one moment. It
// belongs to whoever asked for it.
type Snapshot struct {
	Pods        []*corev1.Pod
	Deployments []*appsv1.Deployment
	HPAs        []*autoscalingv2.HorizontalPodAutoscaler
	Nodes       []*corev1.Node
	// Revision grows with every change.
	Revision uint64
}

// Snapshot tells what the mesh is now. HPAs are as the manifests have them; their
// status is the autoscaler's.
func (e *Engine) Snapshot() Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	s := Snapshot{Revision: e.revision}
	for _, d := range e.sorted() {
		s.Deployments = append(s.Deployments, d.object(now))
		for _, p := range d.pods {
			s.Pods = append(s.Pods, p.object())
		}
	}
	if e.manifests != nil {
		for _, h := range e.manifests.HPAs {
			own := h.DeepCopy()
			own.Namespace = Namespace
			own.UID = types.UID("hpa-" + own.Name)
			own.CreationTimestamp = metav1.NewTime(e.started)
			s.HPAs = append(s.HPAs, own)
		}
	}
	s.Nodes = e.nodeObjects(now)
	return s
}

// Changed is closed at the next change of what Snapshot tells. To miss none, take
// it before the snapshot.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// Target is where a process tells its metrics.
type Target struct {
	// Pod is the replica's name, Service its Deployment's, Node where it is.
	Pod, Service, Node string
	// Address is host:port; the path is /metrics.
	Address string
}

// Targets lists every replica that runs and has a port named "admin", also one
// that is not ready or on its way out. The control plane's process has none.
func (e *Engine) Targets() []Target {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []Target
	for _, d := range e.sorted() {
		for _, p := range d.pods {
			if address, err := p.address(intstr.FromString("admin")); err == nil && p.status.process != nil {
				all = append(all, Target{Pod: p.name, Service: d.name, Node: p.status.node, Address: address})
			}
		}
	}
	return all
}

// object is the Deployment as Kubernetes would tell it. Engine.mu is held.
func (d *deployment) object(now time.Time) *appsv1.Deployment {
	minReady := time.Duration(d.spec.MinReadySeconds) * time.Second
	wanted := int32(d.wanted())
	ready, updated, old := d.counts()
	status := appsv1.DeploymentStatus{
		ObservedGeneration: 1, Replicas: int32(updated + old), UpdatedReplicas: int32(updated), ReadyReplicas: int32(ready),
	}
	for _, p := range d.pods {
		if p.status.available(now, minReady) {
			status.AvailableReplicas++
		}
	}
	status.UnavailableReplicas = max(0, wanted-status.AvailableReplicas)
	object := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: *d.meta.DeepCopy(),
		Spec:       *d.spec.DeepCopy(),
		Status:     status,
	}
	object.Namespace, object.UID, object.Generation = Namespace, types.UID("deployment-"+d.name), 1
	object.CreationTimestamp = metav1.NewTime(d.created)
	object.Spec.Replicas = &wanted
	object.Spec.Template = *d.template.DeepCopy()
	return object
}

// object is the pod as Kubernetes would tell it. Engine.mu is held.
func (p *pod) object() *corev1.Pod {
	s := p.status
	yes := true
	object := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: p.name, Namespace: Namespace, UID: types.UID("pod-" + p.name), CreationTimestamp: metav1.NewTime(p.created),
			Labels: maps.Clone(p.template.Labels), Annotations: maps.Clone(p.template.Annotations),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: p.workload + "-" + p.hash,
				UID: types.UID("replicaset-" + p.workload + "-" + p.hash), Controller: &yes,
			}},
		},
		Spec:   *p.template.Spec.DeepCopy(),
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable},
	}
	if object.Labels == nil {
		object.Labels = map[string]string{}
	}
	object.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = p.hash
	if s.terminating {
		at, grace := metav1.NewTime(s.deletedAt.Add(p.grace())), int64(p.grace()/time.Second)
		object.DeletionTimestamp, object.DeletionGracePeriodSeconds = &at, &grace
	}
	condition := func(kind corev1.PodConditionType, holds bool, since time.Time, reason, message string) {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(since), Reason: reason, Message: message}
		if holds {
			c.Status = corev1.ConditionTrue
		}
		object.Status.Conditions = append(object.Status.Conditions, c)
	}
	if s.node == "" {
		condition(corev1.PodScheduled, false, p.created, corev1.PodReasonUnschedulable, s.reason)
		return object
	}
	object.Spec.NodeName = s.node
	at := metav1.NewTime(s.boundAt)
	object.Status.StartTime, object.Status.HostIP, object.Status.PodIP = &at, host, host
	object.Status.PodIPs = []corev1.PodIP{{IP: host}}
	condition(corev1.PodScheduled, true, s.boundAt, "", "")
	condition(corev1.PodInitialized, true, s.boundAt, "", "")
	// One that is on its way out says so to its readiness probe.
	ready, reason := s.ready && !s.terminating, ""
	if !ready {
		reason = "ContainersNotReady"
	}
	condition(corev1.ContainersReady, ready, s.readyChanged, reason, "")
	condition(corev1.PodReady, ready, s.readyChanged, reason, "")
	container := corev1.ContainerStatus{
		Name: p.container().Name, Image: p.container().Image, Ready: ready, RestartCount: s.restarts,
	}
	// A container that has started once keeps its pod in phase Running, also while
	// it waits to be started again.
	if !s.firstStart.IsZero() {
		object.Status.Phase = corev1.PodRunning
	}
	if started := s.process != nil; started {
		container.Started = &started
		container.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(s.startedAt)}
	} else {
		why := "ContainerCreating"
		if s.restarts > 0 {
			why = "CrashLoopBackOff"
		}
		container.State.Waiting = &corev1.ContainerStateWaiting{Reason: why, Message: s.reason}
	}
	object.Status.ContainerStatuses = []corev1.ContainerStatus{container}
	return object
}

func nodeObject(name string, joined time.Time) *corev1.Node {
	return &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID("node-" + name), CreationTimestamp: metav1.NewTime(joined),
			Labels: map[string]string{corev1.LabelHostname: name},
		},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(joined)}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}},
		},
	}
}

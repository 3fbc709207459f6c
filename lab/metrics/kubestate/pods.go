package kubestate

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	podInfo = gauge("kube_pod_info", "Information about pod.",
		"namespace", "pod", "uid", "pod_ip", "node", "created_by_kind", "created_by_name")
	podCreated   = gauge("kube_pod_created", "Unix creation timestamp.", "namespace", "pod", "uid")
	podDeletion  = gauge("kube_pod_deletion_timestamp", "Unix deletion timestamp.", "namespace", "pod", "uid")
	podPhase     = gauge("kube_pod_status_phase", "The pods current phase.", "namespace", "pod", "uid", "phase")
	podReady     = gauge("kube_pod_status_ready", "Describes whether the pod is ready to serve requests.", "namespace", "pod", "uid", "condition")
	podScheduled = gauge("kube_pod_status_scheduled", "Describes the status of the scheduling process for the pod.",
		"namespace", "pod", "uid", "condition")
	containerRequests = gauge("kube_pod_container_resource_requests", "The number of requested request resource by a container.",
		"namespace", "pod", "uid", "container", "node", "resource", "unit")
	containerLimits = gauge("kube_pod_container_resource_limits", "The number of requested limit resource by a container.",
		"namespace", "pod", "uid", "container", "node", "resource", "unit")
	containerRestarts = counter("kube_pod_container_status_restarts_total", "The number of container restarts per container.",
		"namespace", "pod", "uid", "container")
)

// phases in the order of kube-state-metrics.
var phases = []corev1.PodPhase{corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown, corev1.PodRunning}

func collectPod(out chan<- prometheus.Metric, pod *corev1.Pod) {
	id := []string{pod.Namespace, pod.Name, string(pod.UID)}
	with := func(more ...string) []string { return append(slices.Clone(id), more...) }

	var kind, owner string
	if o := metav1.GetControllerOf(pod); o != nil {
		kind, owner = o.Kind, o.Name
	}
	podInfo.emit(out, 1, with(pod.Status.PodIP, pod.Spec.NodeName, kind, owner)...)
	if !pod.CreationTimestamp.IsZero() {
		podCreated.emit(out, seconds(pod.CreationTimestamp), id...)
	}
	if pod.DeletionTimestamp != nil {
		podDeletion.emit(out, seconds(*pod.DeletionTimestamp), id...)
	}
	if pod.Status.Phase != "" {
		for _, phase := range phases {
			podPhase.emit(out, flag(pod.Status.Phase == phase), with(string(phase))...)
		}
	}
	for _, condition := range pod.Status.Conditions {
		switch condition.Type {
		case corev1.PodReady:
			emitCondition(out, podReady, condition.Status, id)
		case corev1.PodScheduled:
			emitCondition(out, podScheduled, condition.Status, id)
		}
	}
	for _, container := range pod.Spec.Containers {
		emitResources(out, containerRequests, container.Resources.Requests, with(container.Name, pod.Spec.NodeName))
		emitResources(out, containerLimits, container.Resources.Limits, with(container.Name, pod.Spec.NodeName))
	}
	for _, status := range pod.Status.ContainerStatuses {
		containerRestarts.emit(out, float64(status.RestartCount), with(status.Name)...)
	}
}

// emitCondition gives one series for each value that a condition may have.
func emitCondition(out chan<- prometheus.Metric, f family, status corev1.ConditionStatus, id []string) {
	for value, label := range map[corev1.ConditionStatus]string{
		corev1.ConditionTrue: "true", corev1.ConditionFalse: "false", corev1.ConditionUnknown: "unknown",
	} {
		f.emit(out, flag(status == value), append(slices.Clone(id), label)...)
	}
}

// emitResources gives cpu in cores and memory in bytes; id ends before resource.
func emitResources(out chan<- prometheus.Metric, f family, list corev1.ResourceList, id []string) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		quantity := list[name]
		switch name {
		case corev1.ResourceCPU:
			f.emit(out, quantity.AsApproximateFloat64(), append(slices.Clone(id), "cpu", "core")...)
		case corev1.ResourceMemory:
			f.emit(out, quantity.AsApproximateFloat64(), append(slices.Clone(id), "memory", "byte")...)
		case corev1.ResourcePods:
			f.emit(out, quantity.AsApproximateFloat64(), append(slices.Clone(id), "pods", "integer")...)
		}
	}
}

// seconds is a Kubernetes time as a Unix time.
func seconds(t metav1.Time) float64 { return float64(t.UnixMilli()) / 1000 }

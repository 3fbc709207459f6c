package kubestate

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

var (
	deploymentSpec        = gauge("kube_deployment_spec_replicas", "Number of desired pods for a deployment.", "namespace", "deployment")
	deploymentReplicas    = gauge("kube_deployment_status_replicas", "The number of replicas per deployment.", "namespace", "deployment")
	deploymentReady       = gauge("kube_deployment_status_replicas_ready", "The number of ready replicas per deployment.", "namespace", "deployment")
	deploymentAvailable   = gauge("kube_deployment_status_replicas_available", "The number of available replicas per deployment.", "namespace", "deployment")
	deploymentUpdated     = gauge("kube_deployment_status_replicas_updated", "The number of updated replicas per deployment.", "namespace", "deployment")
	deploymentUnavailable = gauge("kube_deployment_status_replicas_unavailable", "The number of unavailable replicas per deployment.", "namespace", "deployment")

	hpaInfo = gauge("kube_horizontalpodautoscaler_info", "Information about this autoscaler.",
		"namespace", "horizontalpodautoscaler", "scaletargetref_api_version", "scaletargetref_kind", "scaletargetref_name")
	hpaMin = gauge("kube_horizontalpodautoscaler_spec_min_replicas", "Lower limit for the number of pods that can be set by the autoscaler, default 1.",
		"namespace", "horizontalpodautoscaler")
	hpaMax = gauge("kube_horizontalpodautoscaler_spec_max_replicas", "Upper limit for the number of pods that can be set by the autoscaler; cannot be smaller than MinReplicas.",
		"namespace", "horizontalpodautoscaler")
	hpaCurrent = gauge("kube_horizontalpodautoscaler_status_current_replicas", "Current number of replicas of pods managed by this autoscaler.",
		"namespace", "horizontalpodautoscaler")
	hpaDesired = gauge("kube_horizontalpodautoscaler_status_desired_replicas", "Desired number of replicas of pods managed by this autoscaler.",
		"namespace", "horizontalpodautoscaler")
	hpaCondition = gauge("kube_horizontalpodautoscaler_status_condition", "The condition of this autoscaler.",
		"namespace", "horizontalpodautoscaler", "condition", "status")

	nodeInfo = gauge("kube_node_info", "Information about a cluster node.",
		"node", "internal_ip", "kernel_version", "os_image", "container_runtime_version", "kubelet_version", "provider_id")
	nodeCreated       = gauge("kube_node_created", "Unix creation timestamp.", "node")
	nodeUnschedulable = gauge("kube_node_spec_unschedulable", "Whether a node can schedule new pods.", "node")
	nodeAllocatable   = gauge("kube_node_status_allocatable", "The allocatable for different resources of a node that are available for scheduling.",
		"node", "resource", "unit")
	nodeCondition = gauge("kube_node_status_condition", "The condition of a cluster node.", "node", "condition", "status")
)

func collectDeployment(out chan<- prometheus.Metric, d *appsv1.Deployment) {
	id := []string{d.Namespace, d.Name}
	if d.Spec.Replicas != nil {
		deploymentSpec.emit(out, float64(*d.Spec.Replicas), id...)
	}
	deploymentReplicas.emit(out, float64(d.Status.Replicas), id...)
	deploymentReady.emit(out, float64(d.Status.ReadyReplicas), id...)
	deploymentAvailable.emit(out, float64(d.Status.AvailableReplicas), id...)
	deploymentUpdated.emit(out, float64(d.Status.UpdatedReplicas), id...)
	deploymentUnavailable.emit(out, float64(d.Status.UnavailableReplicas), id...)
}

func collectHPA(out chan<- prometheus.Metric, hpa *autoscalingv2.HorizontalPodAutoscaler) {
	id := []string{hpa.Namespace, hpa.Name}
	ref := hpa.Spec.ScaleTargetRef
	hpaInfo.emit(out, 1, hpa.Namespace, hpa.Name, ref.APIVersion, ref.Kind, ref.Name)
	least := int32(1) // what the API server fills in
	if hpa.Spec.MinReplicas != nil {
		least = *hpa.Spec.MinReplicas
	}
	hpaMin.emit(out, float64(least), id...)
	hpaMax.emit(out, float64(hpa.Spec.MaxReplicas), id...)
	hpaCurrent.emit(out, float64(hpa.Status.CurrentReplicas), id...)
	hpaDesired.emit(out, float64(hpa.Status.DesiredReplicas), id...)
	for _, condition := range hpa.Status.Conditions {
		emitCondition(out, hpaCondition, condition.Status, append(slices.Clone(id), string(condition.Type)))
	}
}

func collectNode(out chan<- prometheus.Metric, node *corev1.Node) {
	var internal string
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			internal = address.Address
			break
		}
	}
	is := node.Status.NodeInfo
	nodeInfo.emit(out, 1, node.Name, internal, is.KernelVersion, is.OSImage, is.ContainerRuntimeVersion, is.KubeletVersion, node.Spec.ProviderID)
	if !node.CreationTimestamp.IsZero() {
		nodeCreated.emit(out, seconds(node.CreationTimestamp), node.Name)
	}
	nodeUnschedulable.emit(out, flag(node.Spec.Unschedulable), node.Name)
	emitResources(out, nodeAllocatable, node.Status.Allocatable, []string{node.Name})
	for _, condition := range node.Status.Conditions {
		emitCondition(out, nodeCondition, condition.Status, []string{node.Name, string(condition.Type)})
	}
}

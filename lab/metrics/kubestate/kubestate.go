// Package kubestate tells the state of Kubernetes objects as metrics, with the
// names and labels of kube-state-metrics, so that rules and dashboards written
// for a cluster read a local run. What is here is a subset of its pod,
// deployment, horizontalpodautoscaler and node metrics.
package kubestate

import (
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// Objects are the objects at one instant. They are only read, and not kept.
type Objects struct {
	Pods        []*corev1.Pod
	Deployments []*appsv1.Deployment
	HPAs        []*autoscalingv2.HorizontalPodAutoscaler
	Nodes       []*corev1.Node
}

// New returns a collector that asks for the objects at every scrape. It calls
// objects from any goroutine.
func New(objects func() Objects) prometheus.Collector { return collector{objects} }

type collector struct{ objects func() Objects }

// family is one metric.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// emit gives the metric a value; labels are in the order of the family's.
func (f family) emit(out chan<- prometheus.Metric, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

func gauge(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range families {
		descs <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	now := c.objects()
	for _, pod := range now.Pods {
		collectPod(out, pod)
	}
	for _, d := range now.Deployments {
		collectDeployment(out, d)
	}
	for _, hpa := range now.HPAs {
		collectHPA(out, hpa)
	}
	for _, node := range now.Nodes {
		collectNode(out, node)
	}
}

// flag is 1 or 0.
func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// families is every metric, for Describe.
var families = []family{
	podInfo, podCreated, podDeletion, podPhase, podReady, podScheduled, containerRequests, containerLimits, containerRestarts,
	deploymentSpec, deploymentReplicas, deploymentReady, deploymentAvailable, deploymentUpdated, deploymentUnavailable,
	hpaInfo, hpaMin, hpaMax, hpaCurrent, hpaDesired, hpaCondition,
	nodeInfo, nodeCreated, nodeUnschedulable, nodeAllocatable, nodeCondition,
}

package kubestate

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// objects are one of each, as a mesh that has just scaled out has them.
func objects() Objects {
	yes, replicas, least := true, int32(3), int32(2)
	deleted := metav1.NewTime(time.Unix(1_700_000_030, 0))
	return Objects{
		Pods: []*corev1.Pod{
			{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "spillway", Name: "order-1", UID: "u1", CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000, 0)),
					OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "order-abc", Controller: &yes}},
				},
				Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{
					Name: "service",
					Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("48Mi")},
						Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
					},
				}}},
				Status: corev1.PodStatus{
					Phase: corev1.PodRunning, PodIP: "127.0.0.1",
					Conditions: []corev1.PodCondition{
						{Type: corev1.PodReady, Status: corev1.ConditionTrue},
						{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
						{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
					},
					ContainerStatuses: []corev1.ContainerStatus{{Name: "service", RestartCount: 4}},
				},
			},
			{
				ObjectMeta: metav1.ObjectMeta{Namespace: "spillway", Name: "order-2", UID: "u2", DeletionTimestamp: &deleted},
				Status:     corev1.PodStatus{Phase: corev1.PodPending},
			},
		},
		Deployments: []*appsv1.Deployment{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "spillway", Name: "order"},
			Spec:       appsv1.DeploymentSpec{Replicas: &replicas},
			Status:     appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 1, AvailableReplicas: 1, UpdatedReplicas: 2, UnavailableReplicas: 2},
		}},
		HPAs: []*autoscalingv2.HorizontalPodAutoscaler{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "spillway", Name: "order"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "order"},
				MinReplicas:    &least, MaxReplicas: 10,
			},
			Status: autoscalingv2.HorizontalPodAutoscalerStatus{
				CurrentReplicas: 2, DesiredReplicas: 3,
				Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse}},
			},
		}},
		Nodes: []*corev1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "node-1"},
			Spec:       corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3920m"), corev1.ResourcePods: resource.MustParse("110")},
				Addresses:   []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}},
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				NodeInfo:    corev1.NodeSystemInfo{KubeletVersion: "v1.36.3"},
			},
		}},
	}
}

func TestCollect(t *testing.T) {
	// Pedantic: finds metrics that are not described, and labels that do not fit.
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(New(objects))
	gathered, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{}
	for _, f := range gathered {
		var text strings.Builder
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text.String()) {
			if !strings.HasPrefix(line, "#") {
				lines[f.GetName()] = append(lines[f.GetName()], strings.TrimSuffix(line, "\n"))
			}
		}
	}
	for name, want := range map[string]string{
		"kube_pod_info": `kube_pod_info{created_by_kind="",created_by_name="",namespace="spillway",node="",pod="order-2",pod_ip="",uid="u2"} 1
kube_pod_info{created_by_kind="ReplicaSet",created_by_name="order-abc",namespace="spillway",node="node-1",pod="order-1",pod_ip="127.0.0.1",uid="u1"} 1`,
		"kube_pod_created":            `kube_pod_created{namespace="spillway",pod="order-1",uid="u1"} 1.7e+09`,
		"kube_pod_deletion_timestamp": `kube_pod_deletion_timestamp{namespace="spillway",pod="order-2",uid="u2"} 1.70000003e+09`,
		"kube_pod_status_phase": `kube_pod_status_phase{namespace="spillway",phase="Failed",pod="order-1",uid="u1"} 0
kube_pod_status_phase{namespace="spillway",phase="Failed",pod="order-2",uid="u2"} 0
kube_pod_status_phase{namespace="spillway",phase="Pending",pod="order-1",uid="u1"} 0
kube_pod_status_phase{namespace="spillway",phase="Pending",pod="order-2",uid="u2"} 1
kube_pod_status_phase{namespace="spillway",phase="Running",pod="order-1",uid="u1"} 1
kube_pod_status_phase{namespace="spillway",phase="Running",pod="order-2",uid="u2"} 0
kube_pod_status_phase{namespace="spillway",phase="Succeeded",pod="order-1",uid="u1"} 0
kube_pod_status_phase{namespace="spillway",phase="Succeeded",pod="order-2",uid="u2"} 0
kube_pod_status_phase{namespace="spillway",phase="Unknown",pod="order-1",uid="u1"} 0
kube_pod_status_phase{namespace="spillway",phase="Unknown",pod="order-2",uid="u2"} 0`,
		// No condition, no series: as of a pod that nobody has looked at yet.
		"kube_pod_status_ready": `kube_pod_status_ready{condition="false",namespace="spillway",pod="order-1",uid="u1"} 0
kube_pod_status_ready{condition="true",namespace="spillway",pod="order-1",uid="u1"} 1
kube_pod_status_ready{condition="unknown",namespace="spillway",pod="order-1",uid="u1"} 0`,
		"kube_pod_container_resource_requests": `kube_pod_container_resource_requests{container="service",namespace="spillway",node="node-1",pod="order-1",resource="cpu",uid="u1",unit="core"} 0.1
kube_pod_container_resource_requests{container="service",namespace="spillway",node="node-1",pod="order-1",resource="memory",uid="u1",unit="byte"} 5.0331648e+07`,
		"kube_pod_container_resource_limits":        `kube_pod_container_resource_limits{container="service",namespace="spillway",node="node-1",pod="order-1",resource="cpu",uid="u1",unit="core"} 1`,
		"kube_pod_container_status_restarts_total":  `kube_pod_container_status_restarts_total{container="service",namespace="spillway",pod="order-1",uid="u1"} 4`,
		"kube_deployment_spec_replicas":             `kube_deployment_spec_replicas{deployment="order",namespace="spillway"} 3`,
		"kube_deployment_status_replicas":           `kube_deployment_status_replicas{deployment="order",namespace="spillway"} 2`,
		"kube_deployment_status_replicas_ready":     `kube_deployment_status_replicas_ready{deployment="order",namespace="spillway"} 1`,
		"kube_deployment_status_replicas_available": `kube_deployment_status_replicas_available{deployment="order",namespace="spillway"} 1`,
		"kube_horizontalpodautoscaler_info": `kube_horizontalpodautoscaler_info{horizontalpodautoscaler="order",namespace="spillway",` +
			`scaletargetref_api_version="apps/v1",scaletargetref_kind="Deployment",scaletargetref_name="order"} 1`,
		"kube_horizontalpodautoscaler_spec_min_replicas":       `kube_horizontalpodautoscaler_spec_min_replicas{horizontalpodautoscaler="order",namespace="spillway"} 2`,
		"kube_horizontalpodautoscaler_spec_max_replicas":       `kube_horizontalpodautoscaler_spec_max_replicas{horizontalpodautoscaler="order",namespace="spillway"} 10`,
		"kube_horizontalpodautoscaler_status_current_replicas": `kube_horizontalpodautoscaler_status_current_replicas{horizontalpodautoscaler="order",namespace="spillway"} 2`,
		"kube_horizontalpodautoscaler_status_desired_replicas": `kube_horizontalpodautoscaler_status_desired_replicas{horizontalpodautoscaler="order",namespace="spillway"} 3`,
		"kube_horizontalpodautoscaler_status_condition": `kube_horizontalpodautoscaler_status_condition{condition="ScalingActive",horizontalpodautoscaler="order",namespace="spillway",status="false"} 1
kube_horizontalpodautoscaler_status_condition{condition="ScalingActive",horizontalpodautoscaler="order",namespace="spillway",status="true"} 0
kube_horizontalpodautoscaler_status_condition{condition="ScalingActive",horizontalpodautoscaler="order",namespace="spillway",status="unknown"} 0`,
		"kube_node_info":               `kube_node_info{container_runtime_version="",internal_ip="10.0.0.1",kernel_version="",kubelet_version="v1.36.3",node="node-1",os_image="",provider_id=""} 1`,
		"kube_node_spec_unschedulable": `kube_node_spec_unschedulable{node="node-1"} 1`,
		"kube_node_status_allocatable": `kube_node_status_allocatable{node="node-1",resource="cpu",unit="core"} 3.92
kube_node_status_allocatable{node="node-1",resource="pods",unit="integer"} 110`,
	} {
		if got := strings.Join(lines[name], "\n"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestAnAutoscalerWithoutAMinimumHasOne(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(New(func() Objects {
		o := objects()
		o.HPAs[0].Spec.MinReplicas = nil
		return Objects{HPAs: o.HPAs}
	}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "kube_horizontalpodautoscaler_spec_min_replicas" {
			if got := f.GetMetric()[0].GetGauge().GetValue(); got != 1 {
				t.Errorf("got %v, want 1", got)
			}
			return
		}
	}
	t.Error("no kube_horizontalpodautoscaler_spec_min_replicas")
}

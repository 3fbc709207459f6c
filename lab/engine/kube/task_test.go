package kube

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestATaskRunsBesideTheMeshAndIsTakenAway(t *testing.T) {
	gateway := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "gateway", Namespace: "mesh"}}
	gateway.Spec.Template.Spec.Containers = []corev1.Container{{Image: "registry.example/mesh/gateway:0.1.0"}}
	client := fake.NewClientset(gateway)
	c := &Cluster{client: client, namespace: "mesh"}
	if err := c.RemoveTask(t.Context(), "generator"); err != nil {
		t.Errorf("remove a task that is not there: %v", err)
	}
	if err := c.StartTask(t.Context(), Task{Name: "generator", Args: []string{"offer"}, Files: map[string]string{"plan.json": "{}"}}); err != nil {
		t.Fatal(err)
	}
	pod, err := client.CoreV1().Pods("mesh").Get(t.Context(), "generator", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	container := pod.Spec.Containers[0]
	if container.Image != "registry.example/mesh/lab:0.1.0" || container.Args[0] != "offer" || len(container.Command) != 0 {
		t.Errorf("the container is %+v", container)
	}
	// The address comes in when the pod is made, into what is JSON then.
	var bootstrap map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(container.Env[1].Value, "$("+container.Env[0].Name+")", "dns:///conductor:18000")), &bootstrap); err != nil || !strings.Contains(container.Env[1].Value, "$(XDS_ADDRESS)") {
		t.Errorf("the bootstrap is %s: %v", container.Env[1].Value, err)
	}
	if ended, how, err := c.TaskEnded(t.Context(), "generator"); err != nil || ended {
		t.Errorf("ended %v, %s, %v", ended, how, err)
	}
	pod.Status.Phase, pod.Status.Reason = corev1.PodFailed, "DeadlineExceeded"
	if _, err := client.CoreV1().Pods("mesh").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if ended, how, err := c.TaskEnded(t.Context(), "generator"); err != nil || !ended || !strings.Contains(how, "DeadlineExceeded") {
		t.Errorf("ended %v, %s, %v", ended, how, err)
	}
	if err := c.RemoveTask(t.Context(), "generator"); err != nil {
		t.Error(err)
	}
	if list, err := client.CoreV1().ConfigMaps("mesh").List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func TestTheLabsImageIsBesideTheServices(t *testing.T) {
	for gateway, want := range map[string]string{
		"spillway/gateway:0.1.0": "spillway/lab:0.1.0", "gateway": "lab", "localhost:5001/a/gateway": "localhost:5001/a/lab",
		"spillway/gateway@sha256:0": "", "spillway/edge:1": "", "spillway/gateway-live:1": "", "spillway/gateway:1@sha256:0": "",
	} {
		if got, err := labImage(gateway); got != want || (err == nil) != (want != "") {
			t.Errorf("beside %s: %q, %v, want %q", gateway, got, err, want)
		}
	}
}

func TestPodsAreDroppedButTheControlPlanes(t *testing.T) {
	pod := func(name, workload string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "mesh", Labels: map[string]string{nameLabel: workload}}}
	}
	ending := pod("order-b", "order")
	ending.DeletionGracePeriodSeconds = new(int64(1))
	client := fake.NewClientset(pod("conductor-a", controlPlane), pod("order-a", "order"), ending, pod("generator", "load"))
	c := &Cluster{client: client, namespace: "mesh"}
	own := metav1.ListOptions{LabelSelector: nameLabel + "!=" + controlPlane}
	for _, want := range []int{3, 1} { // the fake's pods are gone at once, but for the one that is not deleted again
		if n, err := c.dropPods(t.Context(), own); err != nil || n != want {
			t.Errorf("%d pods, %v, want %d", n, err, want)
		}
	}
	list, err := client.CoreV1().Pods("mesh").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("left are %v, %v, want the control plane's and the one that ends", list.Items, err)
	}
}

func TestTheCPUOfANodeIsWhatItsKubeletTells(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	node.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
	got, err := cpuOf([]byte(`{"node":{"nodeName":"n","cpu":{"time":"2031-01-02T03:04:05Z","usageNanoCores":5,"usageCoreNanoSeconds":2500000000}}}`), node)
	if want := (CPU{At: time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC), Used: 2.5, Cores: 2}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "{}", `{"node":{"cpu":{"time":"2031-01-02T03:04:05Z"}}}`} {
		if got, err := cpuOf([]byte(bad), node); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}

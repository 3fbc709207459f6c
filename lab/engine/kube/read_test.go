package kube

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func pod(name string, born time.Time, ready bool) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(born), Labels: map[string]string{"app": "order"}},
		Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 9000}, {Name: "admin", ContainerPort: 9090}},
		}}},
		Status: corev1.PodStatus{PodIP: "10.0.0.7", Phase: corev1.PodRunning},
	}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func TestWorkloadsAreReadWithTheirPodsOldestFirst(t *testing.T) {
	now := time.Now()
	two := int32(2)
	broken := pod("order-c", now.Add(time.Second), false)
	broken.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 4, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 40s"}}}}
	waiting := pod("order-d", now.Add(2*time.Second), false)
	waiting.Spec.NodeName = ""
	waiting.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available"}}
	ending := pod("order-b", now, true)
	ending.DeletionTimestamp = &metav1.Time{Time: now}
	other := pod("bank-a", now, true)
	other.Labels = map[string]string{"app": "bank"}
	s := state{
		deployments: []appsv1.Deployment{{ObjectMeta: metav1.ObjectMeta{Name: "order"}, Spec: appsv1.DeploymentSpec{
			Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "order"}}}}},
		statefulSets: []appsv1.StatefulSet{{ObjectMeta: metav1.ObjectMeta{Name: "bank"}, Spec: appsv1.StatefulSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "bank"}}}}},
		pods: []corev1.Pod{waiting, broken, ending, pod("order-a", now.Add(-time.Hour), true), other},
	}
	all := s.workloads()
	if len(all) != 2 || all[0].GetName() != "bank" || all[0].GetDesired() != 1 || all[1].GetDesired() != 2 {
		t.Fatalf("workloads %v, want bank of 1 and order of 2", all)
	}
	r := all[1].GetReplicas()
	var names []string
	for _, one := range r {
		names = append(names, one.GetName())
	}
	if got := strings.Join(names, " "); got != "order-a order-b order-c order-d" {
		t.Fatalf("replicas %s, want the oldest first", got)
	}
	for i, want := range []struct {
		phase  enginev1.ReplicaPhase
		ready  bool
		reason string
	}{
		{enginev1.ReplicaPhase_REPLICA_PHASE_RUNNING, true, ""},
		{enginev1.ReplicaPhase_REPLICA_PHASE_TERMINATING, false, ""},
		{enginev1.ReplicaPhase_REPLICA_PHASE_RUNNING, false, "CrashLoopBackOff: back-off 40s"},
		{enginev1.ReplicaPhase_REPLICA_PHASE_PENDING, false, "0/1 nodes are available"},
	} {
		if r[i].GetPhase() != want.phase || r[i].GetReady() != want.ready || r[i].GetReason() != want.reason {
			t.Errorf("%s is %v, want %+v", r[i].GetName(), r[i], want)
		}
	}
	if r[0].GetGrpcAddress() != "10.0.0.7:9000" || r[0].GetAdminAddress() != "10.0.0.7:9090" || r[2].GetRestarts() != 4 {
		t.Errorf("replicas %v: want their addresses and restarts", r)
	}
	if _, err := s.podsOf("absent"); err == nil || !strings.Contains(err.Error(), "order") {
		t.Errorf("pods of what is not there: %v, want the names of what is", err)
	}
	if missing := strings.Join(s.missing(), "; "); !strings.Contains(missing, "order has 0 of 2 (order-c: CrashLoopBackOff") {
		t.Errorf("missing is %q", missing)
	}
}

func TestAPortOfAServiceIsOneOfItsPods(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "order"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
		{Name: "rpc", Port: 80, TargetPort: intstr.FromString("grpc")}, {Name: "plain", Port: 81, TargetPort: intstr.FromInt32(1234)}, {Name: "same", Port: 82},
		{Name: "lost", Port: 83, TargetPort: intstr.FromString("absent")},
	}}}
	p := pod("order-a", time.Now(), true)
	for port, want := range map[string]int32{"rpc": 9000, "80": 9000, "plain": 1234, "81": 1234, "same": 82, "82": 82} {
		if got, err := target(svc, &p, port); err != nil || got != want {
			t.Errorf("port %s is %d, %v, want %d", port, got, err, want)
		}
	}
	for _, port := range []string{"lost", "84"} {
		if got, err := target(svc, &p, port); err == nil {
			t.Errorf("port %s is %d, want an error", port, got)
		}
	}
	if _, err := oneReady(svc, []corev1.Pod{pod("order-b", time.Now(), false)}); err == nil {
		t.Error("a pod that is not ready is taken for one that is")
	}
	if got, err := oneReady(svc, []corev1.Pod{pod("order-c", time.Now(), true), pod("order-b", time.Now(), false)}); err != nil || got.Name != "order-c" {
		t.Errorf("the ready pod is %v, %v", got, err)
	}
}

func TestAddressesOfTheMeshNameServices(t *testing.T) {
	for address, want := range map[string]place{
		"redis:6379":                         {"mesh", "redis", "6379"},
		"nats://nats:4222":                   {"mesh", "nats", "4222"},
		"dns:///conductor:18000":             {"mesh", "conductor", "18000"},
		"http://jaeger.observability:4317":   {"observability", "jaeger", "4317"},
		"redis.state.svc.cluster.local:6379": {"state", "redis", "6379"},
	} {
		if got, err := placeOf(address, "mesh"); err != nil || got != want {
			t.Errorf("%s is %v, %v, want %v", address, got, err, want)
		}
	}
	for _, bad := range []string{"", "redis", "http://", ":6379", "redis:"} {
		if got, err := placeOf(bad, "mesh"); err == nil {
			t.Errorf("%q is %v, want an error", bad, got)
		}
	}
}

func TestEventsOfAutoscalersAreTold(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	event := func(kind, name string, seen time.Time) corev1.Event {
		return corev1.Event{InvolvedObject: corev1.ObjectReference{Kind: kind, Name: name}, LastTimestamp: metav1.NewTime(seen), Reason: "R"}
	}
	events := []corev1.Event{event("HorizontalPodAutoscaler", "order", at.Add(time.Minute)), event("Pod", "order", at), event("Deployment", "order", at), event("HorizontalPodAutoscaler", "bank", at)}
	events[3].Series = &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(at.Add(time.Hour))}
	all := told(events, "")
	if len(all) != 3 || all[0].GetKind() != "Deployment" || all[2].GetName() != "bank" {
		t.Errorf("told are %v, want the Deployment's, then the two autoscalers' in order of time", all)
	}
	if own := told(events, "bank"); len(own) != 1 || !own[0].GetAt().AsTime().Equal(at.Add(time.Hour)) {
		t.Errorf("told of bank are %v", own)
	}
}

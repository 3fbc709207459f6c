//go:build cluster

package kube

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"spillway.dev/lab/fault"
	"spillway.dev/platform/mesh"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func TestAClusterRefusesANamespaceWithoutTheMark(t *testing.T) {
	plain := newNamespace(t, nil)
	_, err := Connect(t.Context(), Config{Namespace: plain})
	if err == nil || !strings.Contains(err.Error(), MarkLabel) || !strings.Contains(err.Error(), "label namespace "+plain) {
		t.Errorf("connect to a namespace without the mark: %v, want the label and the command that sets it", err)
	}
	if _, err := Connect(t.Context(), Config{Namespace: plain + "-absent"}); err == nil || !strings.Contains(err.Error(), "create namespace") {
		t.Errorf("connect to a namespace that is not there: %v", err)
	}
	if _, err := Connect(t.Context(), Config{Namespace: plain, Context: "no-such-context"}); err == nil || !strings.Contains(err.Error(), "no-such-context") {
		t.Errorf("connect to a context that is not there: %v", err)
	}
	// Manifests must not reach into a namespace without the mark either.
	c := connect(t)
	manifests := smallMesh{Namespace: plain, Image: "none", Replicas: 1}.manifests(t)
	if err := c.Apply(t.Context(), manifests, false, nil); err == nil || !strings.Contains(err.Error(), plain) {
		t.Errorf("apply to a namespace without the mark: %v", err)
	}
	if _, err := plainClient(t).AppsV1().Deployments(plain).Get(t.Context(), "small", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a Deployment in the namespace without the mark: %v, want none", err)
	}
}

func connect(t *testing.T) *Cluster {
	t.Helper()
	c, err := Connect(t.Context(), Config{Namespace: newNamespace(t, map[string]string{MarkLabel: MarkValue})})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAClusterIsAppliedSteeredAndTakenDown(t *testing.T) {
	c := connect(t)
	want := smallMesh{Namespace: c.Namespace(), Image: image(t), Replicas: 2, Services: []string{"small", "gateway", "conductor"}, HPA: true}
	var first lines
	if err := c.Apply(t.Context(), want.manifests(t), false, first.add); err != nil {
		t.Fatal(err)
	}
	if !first.has("deployment/small created") {
		t.Errorf("the first apply told %q", first)
	}
	waiting, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitReady(waiting, nil); err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}

	session, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	})
	engine := enginev1.NewEngineServiceClient(session.Conn())

	// What an autoscaler sets stays, twice the same changes nothing.
	scaled, err := engine.Scale(t.Context(), &enginev1.ScaleRequest{Workload: "small", Replicas: 3})
	if err != nil || scaled.GetPrevious() != 2 {
		t.Errorf("scale: %v, %v, want 2 before", scaled, err)
	}
	var again lines
	if err := c.Apply(t.Context(), want.manifests(t), false, again.add); err != nil || len(again) > 0 {
		t.Errorf("the second apply: %v, it told %q, want nothing", err, again)
	}
	if err := c.WaitReady(waiting, nil); err != nil {
		t.Fatal(err)
	}
	before := pods(t, engine)
	if len(before) != 3 {
		t.Errorf("replicas %v after a second apply, want the 3 that it was scaled to", before)
	}

	// One is killed, and another comes in its place.
	killed, err := engine.Kill(t.Context(), &enginev1.KillRequest{Workload: "small", Replica: before[0]})
	if err != nil || len(killed.GetKilled()) != 1 || killed.GetKilled()[0] != before[0] {
		t.Errorf("kill %s: %v, %v", before[0], killed, err)
	}
	await(t, "another replica", func(context.Context) (bool, error) {
		now := pods(t, engine)
		return len(now) == 3 && now[0] != before[0], nil
	})
	if err := c.WaitReady(waiting, nil); err != nil {
		t.Fatal(err)
	}

	// A forwarded port outlives the pod that answered on it.
	info, err := engine.GetInfo(t.Context(), &enginev1.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if info.GetNatsUrl() != "" || info.GetRedisAddress() == "" || info.GetXdsAddress() == "" {
		t.Errorf("info %v: want no NATS, for there is no such Service, Redis and the control plane", info)
	}
	healthy(t, info.GetGatewayHttpUrl())
	if _, err := engine.Kill(t.Context(), &enginev1.KillRequest{Workload: "small"}); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(waiting, nil); err != nil {
		t.Fatal(err)
	}
	healthy(t, info.GetGatewayHttpUrl())

	if _, err := engine.Kill(t.Context(), &enginev1.KillRequest{Workload: "absent"}); err == nil || !strings.Contains(err.Error(), "small") {
		t.Errorf("kill what is not there: %v, want the names of what is", err)
	}
	observed := autoscalerv1.NewAutoscalerServiceClient(session.Conn())
	for kind, n := range map[string]int{"HorizontalPodAutoscaler": 1, "Deployment": 1} {
		list, err := observed.ListObjects(t.Context(), &autoscalerv1.ListObjectsRequest{Kind: kind})
		if err != nil || len(list.GetObjects()) != n {
			t.Errorf("%s: %v, %v, want %d", kind, list, err, n)
		}
	}

	// Without the autoscaler in the manifests it goes.
	want.HPA = false
	var pruned lines
	if err := c.Apply(t.Context(), want.manifests(t), true, pruned.add); err != nil || !pruned.has("horizontalpodautoscaler/small deleted") {
		t.Errorf("apply without the autoscaler: %v, it told %q", err, pruned)
	}
	if err := c.WaitReady(waiting, nil); err != nil {
		t.Fatal(err)
	}
	if now := pods(t, engine); len(now) != 2 {
		t.Errorf("replicas %v after a reset, want 2", now)
	}

	var down lines
	if err := c.Down(waiting, down.add); err != nil {
		t.Fatal(err)
	}
	if now := pods(t, engine); len(now) != 0 || !down.has("deployment/small deleted") {
		t.Errorf("replicas %v after down, which told %q", now, down)
	}
	if err := c.Down(waiting, down.add); err != nil {
		t.Errorf("down again: %v, want nothing to do", err)
	}
}

// pods are the replicas of all workloads that do not end.
func pods(t *testing.T, engine enginev1.EngineServiceClient) []string {
	t.Helper()
	list, err := engine.ListWorkloads(t.Context(), &enginev1.ListWorkloadsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range list.GetWorkloads() {
		for _, r := range w.GetReplicas() {
			if r.GetPhase() != enginev1.ReplicaPhase_REPLICA_PHASE_TERMINATING {
				names = append(names, r.GetName())
			}
		}
	}
	return names
}

// healthy waits for an answer through a forwarded port.
func healthy(t *testing.T, url string) {
	t.Helper()
	await(t, "an answer through a forwarded port", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode == http.StatusOK && string(text) == "OK", err
	})
}

func TestAClusterKeepsTheControlsOfItsMesh(t *testing.T) {
	c := connect(t)
	first, kept, err := readControls(t.Context(), c)
	if err != nil || kept.Last != 0 {
		t.Fatalf("controls before any: %v, %v", kept, err)
	}
	first.kept = func() (fault.Kept, error) { return fault.Kept{Last: 3}, nil }
	first.SetKnobs(map[string]map[string]string{"inventory": {"capacity.slowdown": "4"}, "order": {}})
	first.SetMeshFaults(map[string][]mesh.Fault{"catalog": {{Caller: "gateway", Delay: 1e9, DelayShare: 1}}})
	if err := first.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	written, err := plainClient(t).CoreV1().ConfigMaps(c.Namespace()).Get(t.Context(), mesh.ControlsName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	controls, err := mesh.ParseControls([]byte(written.Data[mesh.ControlsKey]))
	if err != nil || controls.Knobs["inventory"]["capacity.slowdown"] != "4" || len(controls.Faults["catalog"]) != 1 {
		t.Errorf("what the control plane reads is %+v, %v", controls, err)
	}

	// Another program takes over; the first one then hears that it is late.
	second, kept, err := readControls(t.Context(), c)
	if err != nil || kept.Last != 3 {
		t.Fatalf("the second reads %v, %v, want what the first left", kept, err)
	}
	second.kept = first.kept
	second.SetKnobs(nil)
	if err := second.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.SetEndpointUpdates(1e9, false)
	if err := first.flush(t.Context()); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a write over another's: %v, want a refusal", err)
	}
}

func TestAClusterIsEmptiedButForItsControlPlane(t *testing.T) {
	c := connect(t)
	client := plainClient(t)
	want := smallMesh{Namespace: c.Namespace(), Image: image(t), Replicas: 2, Services: []string{"small"}, HPA: true}
	manifests := want.manifests(t)
	conductor := bytes.ReplaceAll(bytes.ReplaceAll(manifests, []byte("name: small,"), []byte("name: conductor, labels: {app.kubernetes.io/name: conductor},")),
		[]byte("{app: small}"), []byte("{app: small, app.kubernetes.io/name: conductor}"))
	if err := c.Apply(t.Context(), bytes.Join([][]byte{manifests, conductor}, []byte("\n---\n")), false, nil); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitReady(waiting, nil); err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "sold"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
	}}
	if _, err := client.CoreV1().PersistentVolumeClaims(c.Namespace()).Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	controls := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: mesh.ControlsName}}
	if _, err := client.CoreV1().ConfigMaps(c.Namespace()).Create(t.Context(), controls, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := c.Empty(waiting); err != nil {
		t.Fatal(err)
	}
	t.Logf("emptied within %s", time.Since(begin))
	left, err := c.Workloads(t.Context())
	if err != nil || len(left) != 1 || left[0].GetName() != controlPlane || left[0].GetReady() != 2 {
		t.Errorf("left are %v, %v, want the control plane as it was", left, err)
	}
	pods, err := client.CoreV1().Pods(c.Namespace()).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 2 {
		t.Errorf("%d pods, %v, want the control plane's", len(pods.Items), err)
	}
	claims, err := client.CoreV1().PersistentVolumeClaims(c.Namespace()).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(claims.Items) != 0 {
		t.Errorf("claims %v, %v", claims.Items, err)
	}
	hpas, err := client.AutoscalingV2().HorizontalPodAutoscalers(c.Namespace()).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(hpas.Items) != 0 {
		t.Errorf("autoscalers %v, %v", hpas.Items, err)
	}
	if _, err := client.CoreV1().ConfigMaps(c.Namespace()).Get(t.Context(), mesh.ControlsName, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the controls: %v, want none", err)
	}
	if cpus, err := c.CPUs(t.Context()); err != nil || len(cpus) == 0 {
		t.Errorf("the CPUs of nodes are %v, %v", cpus, err)
	}
	// What comes next is as new.
	if err := c.Apply(t.Context(), manifests, true, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitReady(waiting, nil); err != nil {
		t.Fatal(err)
	}
}

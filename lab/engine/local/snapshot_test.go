package local

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"spillway.dev/lab/engine/manifest"
)

func condition(p *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func TestSnapshotIsWhatAnAPIServerWouldTell(t *testing.T) {
	begin := time.Now()
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"), func(o *Options) {
		o.Variant = manifest.Variant{Components: []string{"scaling"}}
	})
	s := b.engine.Snapshot()
	if len(s.Pods) != 3 || len(s.Deployments) != 2 || len(s.HPAs) != 1 || len(s.Nodes) != 1 {
		t.Fatalf("%d pods, %d Deployments, %d HPAs, %d nodes", len(s.Pods), len(s.Deployments), len(s.HPAs), len(s.Nodes))
	}
	if h := s.HPAs[0]; h.Namespace != Namespace || h.Spec.MaxReplicas != 6 {
		t.Errorf("HPA %+v", h)
	}
	echo := s.Deployments[1]
	if n := echo.Status; *echo.Spec.Replicas != 2 || n.Replicas != 2 || n.ReadyReplicas != 2 || n.UpdatedReplicas != 2 || n.AvailableReplicas != 2 || n.UnavailableReplicas != 0 {
		t.Errorf("status %+v", n)
	}
	selector, err := metav1.LabelSelectorAsSelector(echo.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	selected := 0
	for _, p := range s.Pods {
		if !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		selected++
		ready := condition(p, corev1.PodReady)
		if p.Namespace != Namespace || p.Spec.NodeName != unlimitedNode || p.Status.Phase != corev1.PodRunning || p.Labels["pod-template-hash"] == "" ||
			p.Status.StartTime.Time.Before(begin) || ready.Status != corev1.ConditionTrue || ready.LastTransitionTime.Time.Before(p.Status.StartTime.Time) ||
			condition(p, corev1.ContainersReady).Status != corev1.ConditionTrue || condition(p, corev1.PodScheduled).Status != corev1.ConditionTrue ||
			len(p.Status.ContainerStatuses) != 1 || p.Status.ContainerStatuses[0].RestartCount != 0 || p.DeletionTimestamp != nil {
			t.Errorf("pod %s: %+v", p.Name, p)
		}
	}
	if selected != 2 {
		t.Errorf("the selector selects %d pods, want 2", selected)
	}
	// It is the caller's own.
	s.Pods[0].Labels["app"], *echo.Spec.Replicas = "changed", 9
	if again := b.engine.Snapshot(); again.Pods[0].Labels["app"] == "changed" || *again.Deployments[1].Spec.Replicas != 2 {
		t.Error("a change of the snapshot is one of the mesh")
	}
}

func TestSnapshotFollowsTheMesh(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	first := b.engine.Snapshot()
	target := b.workload("echo").GetReplicas()[0]
	pod := func(s Snapshot) *corev1.Pod {
		i := slices.IndexFunc(s.Pods, func(p *corev1.Pod) bool { return p.Name == target.GetName() })
		if i < 0 {
			t.Fatalf("no pod %s", target.GetName())
		}
		return s.Pods[i]
	}
	// follow waits for a condition by the channel that announces changes.
	follow := func(what string, holds func(Snapshot) bool) Snapshot {
		t.Helper()
		for {
			changed := b.engine.Changed()
			if s := b.engine.Snapshot(); holds(s) {
				return s
			}
			select {
			case <-changed:
			case <-time.After(patience):
				t.Fatalf("waited in vain until %s", what)
			}
		}
	}
	if err := ask(t, http.MethodPost, target.GetAdminAddress(), "/unready", nil); err != nil {
		t.Fatal(err)
	}
	was := condition(pod(first), corev1.PodReady).LastTransitionTime
	s := follow("the pod is not ready", func(s Snapshot) bool { return condition(pod(s), corev1.PodReady).Status == corev1.ConditionFalse })
	if c := condition(pod(s), corev1.PodReady); !c.LastTransitionTime.After(was.Time) || s.Revision <= first.Revision || s.Deployments[1].Status.ReadyReplicas != 1 {
		t.Errorf("condition %+v, revision %d after %d, status %+v", c, s.Revision, first.Revision, s.Deployments[1].Status)
	}
	_ = ask(t, http.MethodPost, target.GetAdminAddress(), "/exit/3", nil)
	s = follow("the container runs again", func(s Snapshot) bool {
		p := pod(s)
		return condition(p, corev1.PodReady).Status == corev1.ConditionTrue && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	if p := pod(s); p.Status.Phase != corev1.PodRunning || !p.Status.StartTime.Equal(pod(first).Status.StartTime) {
		t.Errorf("a container that is started again is the same pod: %+v", p.Status)
	}
	previous, err := b.engine.SetReplicas("echo", 0)
	if err != nil || previous != 2 {
		t.Errorf("previous %d, %v", previous, err)
	}
	s = follow("the pods are on their way out", func(s Snapshot) bool { return pod(s).DeletionTimestamp != nil })
	if d := s.Deployments[1]; *d.Spec.Replicas != 0 || d.Status.Replicas != 0 || d.Status.ReadyReplicas != 0 {
		t.Errorf("Deployment %+v", d.Status)
	}
	follow("they are gone", func(s Snapshot) bool { return len(s.Pods) == 1 })
}

func TestTargetsAreWhatRuns(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	var services []string
	for _, target := range b.engine.Targets() {
		services = append(services, target.Service)
		if target.Node != unlimitedNode || target.Pod == "" {
			t.Errorf("target %+v", target)
		}
		if err := ask(t, http.MethodGet, target.Address, "/counts", nil); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"caller", "echo", "echo"}; !slices.Equal(services, want) {
		t.Errorf("targets of %v, want %v", services, want)
	}
	if _, err := b.engine.SetReplicas("echo", 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the caller alone is left", func() bool { return len(b.engine.Targets()) == 1 })
}

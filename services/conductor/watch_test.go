package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"spillway.dev/platform/mesh"
)

// following is a watcher that follows a fake API server until the test ends.
func following(t *testing.T, client *fake.Clientset) (*watcher, *watchMetrics) {
	t.Helper()
	metrics, err := newWatchMetrics(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w, err := newWatcher(client, "spillway", mesh.NewControlPlane(log), metrics, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w, metrics
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A mesh that has no Service yet is not known; from its first on the replica is ready, and changes are followed.
func TestFollows(t *testing.T) {
	client := fake.NewClientset()
	w, metrics := following(t, client)
	eventually(t, "an empty namespace to be refused", func() bool { return testutil.ToFloat64(metrics.refused) > 0 })
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.ready(short); err == nil {
		t.Error("a mesh without Services counts as known")
	}
	if _, err := client.CoreV1().Services("spillway").Create(t.Context(), service("echo", "grpc"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := w.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := slice("echo", pod("10.0.0.1", "ready"), pod("10.0.0.2", "ready"))
	two.Name = "echo-1"
	if _, err := client.DiscoveryV1().EndpointSlices("spillway").Create(t.Context(), two, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	endpoints := func() float64 { return testutil.ToFloat64(metrics.endpoints.WithLabelValues("echo")) }
	eventually(t, "two endpoints", func() bool { return endpoints() == 2 })

	// While news are lost nothing changes; when they come again the latest is told.
	dropped := controlsMap(t, mesh.Controls{Endpoints: mesh.EndpointNews{Drop: true}})
	if _, err := client.CoreV1().ConfigMaps("spillway").Create(t.Context(), dropped, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	states := func() float64 { return testutil.ToFloat64(metrics.told) }
	before := states()
	eventually(t, "the controls to be read", func() bool { return states() > before })
	before = states()
	one := two.DeepCopy()
	one.Endpoints = one.Endpoints[:1]
	if _, err := client.DiscoveryV1().EndpointSlices("spillway").Update(t.Context(), one, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change to be seen", func() bool { return states() > before })
	if endpoints() != 2 {
		t.Error("a change was told while news were lost")
	}
	if err := client.CoreV1().ConfigMaps("spillway").Delete(t.Context(), mesh.ControlsName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one endpoint", func() bool { return endpoints() == 1 })
}

// Controls that are not allowed change nothing, and neither does a namespace that has lost all its Services.
func TestWhatIsNotAllowedChangesNothing(t *testing.T) {
	client := fake.NewClientset(service("echo", "grpc"), controlsMap(t, mesh.Controls{Knobs: map[string]map[string]string{"echo": {"a": "1"}}}))
	w, metrics := following(t, client)
	if err := w.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	bad := controlsMap(t, mesh.Controls{})
	bad.Data[mesh.ControlsKey] = `{"knob": {}}`
	if _, err := client.CoreV1().ConfigMaps("spillway").Update(t.Context(), bad, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the controls to be refused", func() bool { return testutil.ToFloat64(metrics.refused) >= 1 })
	before := testutil.ToFloat64(metrics.refused)
	if err := client.CoreV1().Services("spillway").Delete(t.Context(), "echo", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the empty mesh to be refused", func() bool { return testutil.ToFloat64(metrics.refused) >= before+2 })
	if got := testutil.ToFloat64(metrics.services); got != 1 {
		t.Errorf("%v services are served, want the one of before", got)
	}
}

func controlsMap(t *testing.T, c mesh.Controls) *corev1.ConfigMap {
	t.Helper()
	document, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: mesh.ControlsName, Namespace: "spillway"},
		Data:       map[string]string{mesh.ControlsKey: string(document)},
	}
}

package manifests

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/yaml"
)

// Every overlay makes both namespaces, marked. What observes the mesh makes none:
// it is given beside an overlay.
func TestNamespacesAreMarked(t *testing.T) {
	for _, overlay := range overlays {
		enforced := map[string]string{}
		for _, n := range each[*corev1.Namespace](read(t, Combination{Overlay: overlay})) {
			if n.Labels["spillway.dev/lab"] != "true" {
				t.Errorf("%s: namespace %s is not marked, so the lab would refuse it", overlay, n.Name)
			}
			enforced[n.Name] = n.Labels["pod-security.kubernetes.io/enforce"]
		}
		if _, observed := enforced["observability"]; !observed || len(enforced) != 2 || enforced["spillway"] != "restricted" {
			t.Errorf("%s makes the namespaces, with what they enforce, %v", overlay, enforced)
		}
	}
	for _, set := range []string{"observability/lite", "observability/full", "observability/metrics-server"} {
		if made := each[*corev1.Namespace](read(t, Combination{Overlay: set})); len(made) > 0 {
			t.Errorf("%s makes namespace %s, which the overlay has", set, made[0].Name)
		}
	}
}

// One metrics-server in a cluster: kind's, which has none, and whose kubelets'
// certificates nobody could check.
func TestOnlyKindGetsAMetricsServer(t *testing.T) {
	for _, overlay := range overlays {
		found := false
		for _, w := range workloads(read(t, Combination{Overlay: overlay})) {
			if w.name == "metrics-server" {
				found = slices.Contains(w.pod.Spec.Containers[0].Args, "--kubelet-insecure-tls")
			}
		}
		if found != (overlay == "overlays/kind") {
			t.Errorf("%s has a metrics-server that asks such kubelets: %v", overlay, found)
		}
	}
}

// A test machine has no registry, no volumes and no load balancers, and two cores.
func TestCIOverlayNeedsNothingFromElsewhere(t *testing.T) {
	objects := read(t, Combination{Overlay: "overlays/ci"})
	var cores float64
	for _, w := range workloads(objects) {
		if len(w.claims) > 0 {
			t.Errorf("%s asks for volumes", w)
		}
		for _, v := range w.pod.Spec.Volumes {
			if v.PersistentVolumeClaim != nil {
				t.Errorf("%s asks for a volume", w)
			}
		}
		for _, c := range w.containers() {
			if name, ours := strings.CutPrefix(c.Image, "spillway/"); !ours || !strings.HasSuffix(name, ":0.1.0") {
				t.Errorf("%s: image %s is not built on a test machine", w, c.Image)
			}
			if c.ImagePullPolicy != corev1.PullIfNotPresent {
				t.Errorf("%s: its image is pulled: %q", w, c.ImagePullPolicy)
			}
			if c.ReadinessProbe != nil && c.ReadinessProbe.Exec != nil {
				t.Errorf("%s is probed by a program that its image may not have", w)
			}
			cores += float64(w.replicas) * c.Resources.Requests.Cpu().AsApproximateFloat64()
		}
	}
	if len(each[*corev1.PersistentVolumeClaim](objects)) > 0 {
		t.Error("it claims volumes")
	}
	if cores > 1.5 {
		t.Errorf("it requests %.2f cores, and leaves too little of two to scale out", cores)
	}
	for _, s := range each[*corev1.Service](objects) {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			t.Errorf("Service %s waits for a load balancer", s.Name)
		}
	}
}

func TestClusterOverlayRunsThreeNATS(t *testing.T) {
	objects := read(t, Combination{Overlay: "overlays/cluster"})
	conf := ""
	for _, c := range each[*corev1.ConfigMap](objects) {
		if strings.HasPrefix(c.Name, "nats-") {
			conf += c.Data["nats.conf"]
		}
	}
	for _, s := range each[*appsv1.StatefulSet](objects) {
		if s.Name != "nats" {
			continue
		}
		if *s.Spec.Replicas != 3 {
			t.Errorf("there are %d NATS servers", *s.Spec.Replicas)
		}
		for i := range int(*s.Spec.Replicas) {
			if route := fmt.Sprintf("nats://%s-%d.%s:6222", s.Name, i, s.Spec.ServiceName); !strings.Contains(conf, route) {
				t.Errorf("no server is told of %s", route)
			}
		}
		// Who stores in them has each keep everything; with one server there is one.
		for overlay, want := range map[string]string{"overlays/cluster": fmt.Sprint(*s.Spec.Replicas), "overlays/kind": ""} {
			asked := map[string]string{}
			for _, w := range workloads(read(t, Combination{Overlay: overlay})) {
				if kept := environment(w.pod.Spec.Containers[0])["SPILLWAY_NATS_REPLICAS"]; kept != "" || w.name == "order" || w.name == "ticketing" {
					asked[w.name] = kept
				}
			}
			if len(asked) != 2 || asked["order"] != want || asked["ticketing"] != want {
				t.Errorf("%s: replicas in NATS are %v, want %q", overlay, asked, want)
			}
		}
		return
	}
	t.Error("there is no NATS")
}

// The conductor may read what it serves from, and change nothing.
func TestConductorOnlyReads(t *testing.T) {
	objects := read(t, Combination{Overlay: "mesh"})
	for _, r := range each[*rbacv1.Role](objects) {
		for _, rule := range r.Rules {
			for _, verb := range rule.Verbs {
				if verb != "get" && verb != "list" && verb != "watch" {
					t.Errorf("Role %s: it may %s %v", r.Name, verb, rule.Resources)
				}
			}
			for _, resource := range rule.Resources {
				if resource == "*" || resource == "secrets" || resource == "configmaps" && len(rule.ResourceNames) == 0 {
					t.Errorf("Role %s: it reads %v of all names", r.Name, rule.Resources)
				}
			}
		}
	}
	if found := each[*rbacv1.ClusterRole](objects); len(found) > 0 {
		t.Errorf("the mesh brings a ClusterRole: %s", found[0].Name)
	}
}

// One program serves each API of metrics, whichever component was chosen.
func TestMetricsAPIs(t *testing.T) {
	for _, test := range []struct{ component, custom, external string }{
		{"scaling-pressure", "conductor:8443", "conductor:8443"},
		{"prometheus-adapter", "prometheus-adapter:443", "prometheus-adapter:443"},
		{"keda", "conductor:8443", ""},
		{"keda-workload", "conductor:8443", ""},
	} {
		objects := read(t, Combination{"overlays/kind", []string{test.component, namespace}})
		got := map[string]string{}
		for _, a := range each[*apiregistrationv1.APIService](objects) {
			got[a.Name] = fmt.Sprintf("%s:%d", a.Spec.Service.Name, *a.Spec.Service.Port)
		}
		for name, want := range map[string]string{
			"v1beta1.custom.metrics.k8s.io": test.custom, "v1beta2.custom.metrics.k8s.io": test.custom, "v1beta1.external.metrics.k8s.io": test.external,
		} {
			if got[name] != want {
				t.Errorf("%s: %s is served by %q, want %q", test.component, name, got[name], want)
			}
		}
		for _, w := range workloads(objects) {
			if w.name == "conductor" {
				off := environment(w.pod.Spec.Containers[0])["SPILLWAY_METRICS_API_ADDR"] == "off"
				if off != (test.custom != "conductor:8443") {
					t.Errorf("%s: the conductor's metrics part is off: %v", test.component, off)
				}
			}
		}
	}
}

// KEDA scales what scaling-pressure does, between the same bounds, at the same
// pressure.
func TestKEDAScalesAsPressureDoes(t *testing.T) {
	want := map[string]string{}
	for _, h := range each[*autoscalingv2.HorizontalPodAutoscaler](read(t, Combination{"overlays/kind", []string{"scaling-pressure", namespace}})) {
		m := h.Spec.Metrics[0].External
		want[h.Name] = fmt.Sprintf("%d to %d at %.2f of %s", *h.Spec.MinReplicas, h.Spec.MaxReplicas, m.Target.Value.AsApproximateFloat64(), m.Metric.Selector.MatchLabels["service"])
	}
	got := map[string]string{}
	for _, custom := range read(t, Combination{"overlays/kind", []string{"keda", namespace}}).Custom {
		spec := custom.Object["spec"].(map[string]any)
		trigger := spec["triggers"].([]any)[0].(map[string]any)["metadata"].(map[string]any)
		var threshold float64
		if _, err := fmt.Sscan(trigger["threshold"].(string), &threshold); err != nil {
			t.Fatal(err)
		}
		_, service, _ := strings.Cut(trigger["query"].(string), `spillway:service_pressure:ratio{service="`)
		service, _, _ = strings.Cut(service, `"`)
		got[custom.GetName()] = fmt.Sprintf("%v to %v at %.2f of %s", spec["minReplicaCount"], spec["maxReplicaCount"], threshold, service)
	}
	if len(want) == 0 || len(got) != len(want) {
		t.Errorf("KEDA scales %d services, HPAs %d", len(got), len(want))
	}
	for name, how := range want {
		if got[name] != how {
			t.Errorf("%s: %s by KEDA, %s by its HPA", name, got[name], how)
		}
	}
}

// KEDA's kubernetes-workload follows the same callers as scaling-workload does, by
// the same proportion, and the declared call graph says who they are.
func TestKEDAFollowsTheSameCallers(t *testing.T) {
	want := map[string]string{}
	for _, h := range each[*autoscalingv2.HorizontalPodAutoscaler](read(t, Combination{"overlays/kind", []string{"scaling-workload", namespace}})) {
		how := "cpu at 70"
		if m := h.Spec.Metrics[0].External; m != nil {
			how = fmt.Sprintf("callers at %s", m.Target.AverageValue)
		}
		want[h.Name] = fmt.Sprintf("%d to %d, %s", *h.Spec.MinReplicas, h.Spec.MaxReplicas, how)
	}
	text, err := os.ReadFile(filepath.Join(k8s, "base/callgraph.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var graph struct {
		Calls map[string]map[string]map[string]float64 `json:"calls"`
	}
	if err := yaml.Unmarshal(text, &graph); err != nil {
		t.Fatal(err)
	}
	callers := map[string][]string{}
	for _, caller := range slices.Sorted(maps.Keys(graph.Calls)) {
		for _, calls := range graph.Calls[caller] {
			for to, visits := range calls {
				callee, _, _ := strings.Cut(to, ".")
				if visits > 0 && !slices.Contains(callers[callee], caller) {
					callers[callee] = append(callers[callee], caller)
				}
			}
		}
	}
	got := map[string]string{}
	for _, custom := range read(t, Combination{"overlays/kind", []string{"keda-workload", namespace}}).Custom {
		spec := custom.Object["spec"].(map[string]any)
		trigger := spec["triggers"].([]any)[0].(map[string]any)
		metadata := trigger["metadata"].(map[string]any)
		how := fmt.Sprintf("%s at %s", trigger["type"], metadata["value"])
		if trigger["type"] == "kubernetes-workload" {
			how = fmt.Sprintf("callers at %s", metadata["value"])
			if selector := fmt.Sprintf("app.kubernetes.io/name in (%s)", strings.Join(callers[custom.GetName()], ", ")); metadata["podSelector"] != selector {
				t.Errorf("%s follows %s, want %s", custom.GetName(), metadata["podSelector"], selector)
			}
		}
		got[custom.GetName()] = fmt.Sprintf("%v to %v, %s", spec["minReplicaCount"], spec["maxReplicaCount"], how)
	}
	if len(want) == 0 || !maps.Equal(got, want) {
		t.Errorf("KEDA scales %v, HPAs %v", got, want)
	}
}

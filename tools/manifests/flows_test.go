package manifests

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// flow is a connection between two workloads, by names: what of the mesh may reach
// which port.
type flow struct {
	from, to string
	port     int32
}

// declared are the flows that the workloads ask for themselves: whom they are told
// to call, which stores they are told of, and that all of them are steered.
func declared(objects Objects) map[flow]bool {
	stores := map[string]flow{"redis": {to: "redis", port: 6379}, "nats": {to: "nats", port: 4222}, "xds": {to: "conductor", port: 18000}}
	flows := map[flow]bool{}
	for _, w := range workloads(objects) {
		if w.namespace != "spillway" {
			continue
		}
		for _, c := range w.pod.Spec.Containers {
			for _, host := range hosts(c) {
				flows[flow{w.name, host, 9000}] = true
			}
			for _, e := range c.Env {
				if e.ValueFrom == nil || e.ValueFrom.ConfigMapKeyRef == nil || e.ValueFrom.ConfigMapKeyRef.Name != "mesh" {
					continue
				}
				if store, ok := stores[e.ValueFrom.ConfigMapKeyRef.Key]; ok {
					flows[flow{w.name, store.to, store.port}] = true
				}
			}
			for _, p := range c.Ports {
				if p.Name == "cluster" {
					flows[flow{w.name, w.name, p.ContainerPort}] = true
				}
			}
		}
	}
	return flows
}

// allowed are the flows among the workloads of the mesh, to ports that they listen
// on, which the policies let through at both ends.
func allowed(t *testing.T, objects Objects) map[flow]bool {
	t.Helper()
	var mesh []workload
	for _, w := range workloads(objects) {
		if w.namespace == "spillway" {
			mesh = append(mesh, w)
		}
	}
	policies := each[*networkingv1.NetworkPolicy](objects)
	flows := map[flow]bool{}
	for _, from := range mesh {
		for _, to := range mesh {
			for _, c := range to.pod.Spec.Containers {
				for _, p := range c.Ports {
					if passes(t, policies, networkingv1.PolicyTypeEgress, from, to, p) && passes(t, policies, networkingv1.PolicyTypeIngress, to, from, p) {
						flows[flow{from.name, to.name, p.ContainerPort}] = true
					}
				}
			}
		}
	}
	return flows
}

// passes tells whether the policies for one direction of own's traffic let it
// through: those that select it are a union, and without any all passes.
func passes(t *testing.T, policies []*networkingv1.NetworkPolicy, direction networkingv1.PolicyType, own, other workload, port corev1.ContainerPort) bool {
	t.Helper()
	isolated := false
	for _, p := range policies {
		if p.Namespace != own.namespace || !slices.Contains(p.Spec.PolicyTypes, direction) || !matches(t, &p.Spec.PodSelector, own.pod.Labels) {
			continue
		}
		isolated = true
		if direction == networkingv1.PolicyTypeIngress {
			for _, rule := range p.Spec.Ingress {
				if peers(t, rule.From, other) && onPort(rule.Ports, port) {
					return true
				}
			}
			continue
		}
		for _, rule := range p.Spec.Egress {
			if peers(t, rule.To, other) && onPort(rule.Ports, port) {
				return true
			}
		}
	}
	return !isolated
}

// peers tells whether a rule of a policy in the mesh's namespace means a workload.
func peers(t *testing.T, list []networkingv1.NetworkPolicyPeer, other workload) bool {
	t.Helper()
	return len(list) == 0 || slices.ContainsFunc(list, func(p networkingv1.NetworkPolicyPeer) bool {
		there := other.namespace == "spillway"
		if p.NamespaceSelector != nil {
			there = matches(t, p.NamespaceSelector, map[string]string{"kubernetes.io/metadata.name": other.namespace})
		}
		return there && p.IPBlock == nil && matches(t, p.PodSelector, other.pod.Labels)
	})
}

func onPort(ports []networkingv1.NetworkPolicyPort, port corev1.ContainerPort) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			return false
		}
		return p.Port == nil || p.Port.Type == intstr.String && p.Port.StrVal == port.Name || p.Port.Type == intstr.Int && p.Port.IntVal == port.ContainerPort
	})
}

func matches(t *testing.T, selector *metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(of))
}

// People may come to the gateway from anywhere, so its own pods' peers may too; the
// API server has no label, so anybody may reach the conductor's metrics API, which
// asks who they are. Only who may send at all gets there.
func TestPoliciesAllowTheCallGraphOnly(t *testing.T) {
	for _, overlay := range []string{"overlays/kind", "overlays/cluster"} {
		objects := read(t, Combination{overlay, []string{"network-policies", namespace}})
		want, got := declared(objects), allowed(t, objects)
		if len(want) < 20 {
			t.Errorf("%s: only %d flows are declared: %v", overlay, len(want), want)
		}
		for f := range maps.Keys(want) {
			if !got[f] {
				t.Errorf("%s: nothing lets %s reach port %d of %s", overlay, f.from, f.port, f.to)
			}
		}
		for f := range maps.Keys(got) {
			if !want[f] {
				t.Errorf("%s: %s may reach port %d of %s, which it does not call", overlay, f.from, f.port, f.to)
			}
		}
	}
}

// What observes the mesh is another namespace's. Of each overlay: traces have
// somewhere to go and get there, every replica is scraped, and who serves the
// metrics of autoscalers may ask Prometheus.
func TestPoliciesLetObservabilityWork(t *testing.T) {
	for _, test := range []struct{ overlay, beside, traces string }{
		{"overlays/kind", "observability/lite", "otel-collector"},
		{"overlays/kind", "observability/full", "otel-collector"},
		{"overlays/ci", "", "jaeger"},
		{"overlays/cluster", "", "otel-collector"},
	} {
		objects := read(t, Combination{test.overlay, []string{"prometheus-adapter", "network-policies", namespace}})
		if test.beside != "" {
			objects.Typed = slices.Concat(objects.Typed, read(t, Combination{Overlay: test.beside}).Typed)
		}
		policies := each[*networkingv1.NetworkPolicy](objects)
		there := map[string]workload{}
		for _, w := range workloads(objects) {
			there[w.namespace+"/"+w.name] = w
		}
		reaches := func(from, to string, port int32) {
			t.Helper()
			a, b := there[from], there[to]
			if a.name == "" || b.name == "" {
				t.Errorf("%s: there is no %s, or no %s", test.overlay, from, to)
				return
			}
			i := slices.IndexFunc(b.pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == port })
			if i < 0 {
				t.Errorf("%s: %s does not listen on port %d", test.overlay, to, port)
				return
			}
			p := b.pod.Spec.Containers[0].Ports[i]
			if !passes(t, policies, networkingv1.PolicyTypeEgress, a, b, p) || !passes(t, policies, networkingv1.PolicyTypeIngress, b, a, p) {
				t.Errorf("%s: %s does not reach port %d of %s", test.overlay, from, port, to)
			}
		}
		for _, c := range each[*corev1.ConfigMap](objects) {
			if want := "http://" + test.traces + ".observability:4317"; c.Name == "mesh" && c.Data["otlp"] != want {
				t.Errorf("%s: traces go to %s, not to %s", test.overlay, c.Data["otlp"], want)
			}
		}
		sending := 0
		for name, w := range there {
			for _, e := range w.pod.Spec.Containers[0].Env {
				if e.Name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
					sending++
					reaches(name, "observability/"+test.traces, 4317)
					reaches("observability/prometheus", name, 9090)
				}
			}
		}
		if sending != 9 { // the services and the conductor
			t.Errorf("%s: %d workloads send traces", test.overlay, sending)
		}
		reaches("spillway/conductor", "observability/prometheus", 9090)
		reaches("spillway/prometheus-adapter", "observability/prometheus", 9090)
	}
}

// Without the component everything may reach everything: the test above sees it.
func TestNoPoliciesAllowAll(t *testing.T) {
	objects := read(t, Combination{Overlay: "overlays/kind"})
	if got := allowed(t, objects); !got[flow{"gateway", "redis", 6379}] || len(got) < 100 {
		t.Errorf("without policies only %d flows pass", len(got))
	}
}

// The lab's own pods reach whom they load and whose books they audit.
func TestPoliciesLetTheLabWork(t *testing.T) {
	objects := read(t, Combination{"overlays/kind", []string{"network-policies", namespace}})
	policies := each[*networkingv1.NetworkPolicy](objects)
	lab := workload{kind: "Job", namespace: "spillway", name: "lab"}
	lab.pod.Labels = map[string]string{"app.kubernetes.io/name": "lab"}
	reached := map[string]bool{}
	for _, to := range workloads(objects) {
		for _, p := range to.pod.Spec.Containers[0].Ports {
			if passes(t, policies, networkingv1.PolicyTypeEgress, lab, to, p) && passes(t, policies, networkingv1.PolicyTypeIngress, to, lab, p) {
				reached[fmt.Sprintf("%s:%s", to.name, p.Name)] = true
			}
		}
	}
	for _, need := range []string{"gateway:http", "gateway:grpc", "bank:grpc", "redis:redis", "nats:nats"} {
		if !reached[need] {
			t.Errorf("the lab does not reach %s; it reaches %v", need, reached)
		}
	}
	if reached["payment:grpc"] {
		t.Error("the lab reaches payment, which only order calls")
	}
	// The generator of an experiment learns of the gateway's replicas as a caller does.
	generator := lab
	generator.name, generator.pod.Labels = "generator", map[string]string{"app.kubernetes.io/name": "load"}
	for _, to := range workloads(objects) {
		for _, p := range to.pod.Spec.Containers[0].Ports {
			passed := passes(t, policies, networkingv1.PolicyTypeEgress, generator, to, p) && passes(t, policies, networkingv1.PolicyTypeIngress, to, generator, p)
			if need := to.name == "conductor" && p.Name == "xds" || to.name == "gateway" && p.Name == "grpc"; need && !passed {
				t.Errorf("the generator does not reach %s:%s", to.name, p.Name)
			}
		}
	}
}

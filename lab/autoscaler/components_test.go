package autoscaler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/platform/metricsrules"
)

const k8s = "../../k8s"

// render is the mesh of the local overlay with a component.
func render(t *testing.T, component string) *manifest.Mesh {
	t.Helper()
	m, err := manifest.LoadVariant(k8s, "overlays/local", manifest.Variant{Components: []string{component}}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The ways of scaling name who scales, and never the bank.
func TestComponents(t *testing.T) {
	all := "catalog gateway inventory order payment session ticketing"
	for component, want := range map[string]string{
		"scaling-fixed":       "",
		"scaling-cpu":         all,
		"scaling-callers-cpu": "gateway order",
		"scaling-pressure":    all,
		"scaling-demand":      all,
		"scaling-workload":    all,
		"scaling-coordinated": all,
	} {
		t.Run(component, func(t *testing.T) {
			m := render(t, component)
			var names []string
			for _, h := range m.HPAs {
				names = append(names, h.Spec.ScaleTargetRef.Name)
				if err := autoscaler.Check(h); err != nil {
					t.Error(err)
				}
				if h.Spec.ScaleTargetRef.Name != h.Name {
					t.Errorf("HPA %s scales %s", h.Name, h.Spec.ScaleTargetRef.Name)
				}
				if !slices.ContainsFunc(m.Deployments, func(d *appsv1.Deployment) bool { return d.Name == h.Name }) {
					t.Errorf("HPA %s scales what is not there", h.Name)
				}
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%s scales %q, want %q", component, got, want)
			}
		})
	}
}

// TestComponentsScale lets the components' HPAs act on the series of the mesh's
// recording rules, by the rules of the cluster's adapter.
func TestComponentsScale(t *testing.T) {
	for component, want := range map[string]string{
		// 90 % of the request where 70 % is wanted: 2.6 for two, so three; then 60 %.
		"scaling-cpu": "15s 2→3",
		// Offered twice what two replicas can do, at 0.7 of it: six.
		"scaling-pressure": "15s 2→4, 30s 4→6",
		// Four replicas' worth, at 0.7 each: six, however many there are.
		"scaling-demand": "15s 2→4, 30s 4→6",
		// The gateway has three, and one order is for each.
		"scaling-workload": "15s 2→3",
		// CPU asks for three, what the edge is offered for five: the larger.
		"scaling-coordinated": "15s 2→4, 30s 4→5",
	} {
		t.Run(component, func(t *testing.T) {
			var spec string
			for _, h := range render(t, component).HPAs {
				if h.Name == "order" {
					spec = h.Spec.String()
					synctest.Test(t, func(t *testing.T) {
						d := newDemo(t, 2)
						h.Spec.ScaleTargetRef.Name = "demo"
						d.hpas = append(d.hpas, h)
						d.each("spillway:pod_cpu_usage:cores", shared(d, func() float64 { return 1.8 }))
						d.each("process_resident_memory_bytes", always(1<<20))
						d.one("spillway:service_pressure:ratio", map[string]string{"service": "order"}, func() float64 {
							d.mu.Lock()
							defer d.mu.Unlock()
							return 4 / float64(len(d.pods))
						})
						d.one("spillway:service_pressure:ratio", map[string]string{"service": "payment"}, func() float64 { return 9 })
						d.one("spillway:service_demand:ratio", map[string]string{"service": "order"}, func() float64 { return 4 })
						d.one("spillway:service_demand:ratio", map[string]string{"service": "payment"}, func() float64 { return 9 })
						d.one("spillway:service_caller_replicas:sum", map[string]string{"service": "order"}, func() float64 { return 3 })
						d.one("spillway:service_required_replicas:sum", map[string]string{"service": "order"}, func() float64 { return 4.6 })
						d.one("spillway:service_required_replicas:sum", map[string]string{"service": "payment"}, func() float64 { return 9 })
						began := time.Now()
						a := d.run(autoscaler.Config{Rules: filepath.Join(k8s, "observability/prometheus-adapter/config.yaml")})
						pass(5 * time.Minute)
						if got := told(a, began); got != want {
							t.Errorf("got %q, want %q: %v", got, want, reasons(a))
						}
					})
				}
			}
			if spec == "" {
				t.Fatal("no HPA order")
			}
		})
	}
}

// Every recording rule that the adapter's configuration may be asked for is one
// that the rules of the metrics store record.
func TestAdapterRules(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(k8s, "observability/prometheus-adapter/config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := metricsrules.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var recorded []byte
	for _, name := range []string{"mesh.yaml", "coordination.yaml"} {
		text, err := os.ReadFile(filepath.Join(k8s, "observability/prometheus/rules", name))
		if err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, text...)
	}
	for _, series := range []string{"spillway:service_pressure:ratio", "spillway:service_demand:ratio", "spillway:service_offered_calls:rate", "spillway:pod_cpu_usage:cores",
		"spillway:service_required_replicas:sum", "spillway:service_caller_replicas:sum"} {
		if !strings.Contains(string(recorded), fmt.Sprintf("record: %s\n", series)) {
			t.Errorf("%s is not recorded", series)
		}
	}
	if !strings.Contains(c.ResourceRules.CPU.ContainerQuery, "spillway:pod_cpu_usage:cores") {
		t.Errorf("CPU is %s", c.ResourceRules.CPU.ContainerQuery)
	}
	if got := time.Duration(c.ResourceRules.Window); got != 30*time.Second {
		t.Errorf("the window is %v, and spillway:pod_cpu_usage:cores averages over 30 s", got)
	}
}

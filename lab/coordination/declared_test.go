package coordination

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"google.golang.org/protobuf/reflect/protoreflect"

	"spillway.dev/lab/engine/manifest"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

const k8s = "../../k8s"

func declared(t *testing.T) *Graph {
	t.Helper()
	text, err := os.ReadFile("../../" + GraphFile)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, string(text))
}

// contracts are the services as their contracts have them.
var contracts = map[string]protoreflect.FileDescriptor{
	"gateway": gatewayv1.File_spillway_gateway_v1_gateway_proto, "session": sessionv1.File_spillway_session_v1_session_proto,
	"catalog": catalogv1.File_spillway_catalog_v1_catalog_proto, "inventory": inventoryv1.File_spillway_inventory_v1_inventory_proto,
	"order": orderv1.File_spillway_order_v1_order_proto, "payment": paymentv1.File_spillway_payment_v1_payment_proto,
	"bank": bankv1.File_spillway_bank_v1_bank_proto, "ticketing": ticketingv1.File_spillway_ticketing_v1_ticketing_proto,
}

func methodsOf(file protoreflect.FileDescriptor) map[string]bool {
	all := map[string]bool{}
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			all[string(methods.Get(j).Name())] = true
		}
	}
	return all
}

// Every method that is declared is in a contract, and every one of the edge's is a
// route.
func TestTheGraphIsOfTheContracts(t *testing.T) {
	g := declared(t)
	for _, c := range g.Calls {
		for _, end := range [][2]string{{c.Caller, c.CallerMethod}, {c.Callee, c.Method}} {
			file := contracts[end[0]]
			if file == nil {
				t.Errorf("%s: there is no service %q", c, end[0])
			} else if end[1] != Queue && !methodsOf(file)[end[1]] {
				t.Errorf("%s: %s has no method %q", c, end[0], end[1])
			}
		}
	}
	if got, want := g.Routes(), slices.Sorted(maps.Keys(methodsOf(contracts[g.Edge]))); !slices.Equal(got, want) {
		t.Errorf("the routes are %v, the methods of %s %v", got, g.Edge, want)
	}
}

// A Deployment is told where to find exactly those whom its service calls.
func TestTheGraphIsOfTheDeployments(t *testing.T) {
	g := declared(t)
	mesh, err := manifest.LoadVariant(k8s, "overlays/local", manifest.Variant{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, d := range mesh.Deployments {
		there = append(there, d.Name)
		targets := map[string]bool{}
		for _, e := range d.Spec.Template.Spec.Containers[0].Env {
			if name, ok := strings.CutPrefix(e.Name, "SPILLWAY_"); ok && strings.HasSuffix(name, "_TARGET") && name != "CONTROL_TARGET" {
				targets[strings.ToLower(strings.TrimSuffix(name, "_TARGET"))] = true
			}
		}
		calls := map[string]bool{}
		for _, c := range g.Calls {
			if c.Caller == d.Name && c.Method != Queue {
				calls[c.Callee] = true
			}
		}
		if !maps.Equal(targets, calls) {
			t.Errorf("%s is told where to find %v, and is declared to call %v", d.Name, slices.Sorted(maps.Keys(targets)), slices.Sorted(maps.Keys(calls)))
		}
	}
	if got := slices.Sorted(slices.Values(g.Services())); !slices.Equal(got, slices.Sorted(slices.Values(there))) {
		t.Errorf("declared are %v, deployed %v", got, there)
	}
}

// scaling-coordinated and scaling-workload: who is scaled, and by how much.
func TestComponentsAreOfTheGraph(t *testing.T) {
	g := declared(t)
	replicas := map[string]int{}
	load := func(component string) *manifest.Mesh {
		mesh, err := manifest.LoadVariant(k8s, "overlays/local", manifest.Variant{Components: []string{component}}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return mesh
	}
	for _, d := range load("scaling-workload").Deployments {
		replicas[d.Name] = int(*or(d, 1))
	}
	for component, metric := range map[string]string{"scaling-coordinated": "service_required_replicas", "scaling-workload": "service_caller_replicas"} {
		seen := 0
		for _, h := range load(component).HPAs {
			seen++
			for _, m := range h.Spec.Metrics {
				if m.External == nil {
					continue
				}
				want := 1.0
				if component == "scaling-workload" {
					callers := 0
					for _, c := range g.Callers(h.Name) {
						callers += replicas[c]
					}
					want = float64(callers) / float64(replicas[h.Name])
				}
				if got := m.External.Target.AverageValue.AsApproximateFloat64(); m.External.Metric.Name != metric ||
					m.External.Metric.Selector.MatchLabels["service"] != h.Name || got != want {
					t.Errorf("%s: %s scales on %s of %v at %v, want %s at %v", component, h.Name, m.External.Metric.Name,
						m.External.Metric.Selector.MatchLabels, got, metric, want)
				}
			}
		}
		if want := len(g.Services()) - len(g.Quotas); seen != want {
			t.Errorf("%s has %d autoscalers for %d services that can scale", component, seen, want)
		}
	}
}

// or is a Deployment's replicas, or what stands in where it says nothing.
func or(d *appsv1.Deployment, nothing int32) *int32 {
	if d.Spec.Replicas == nil {
		return &nothing
	}
	return d.Spec.Replicas
}

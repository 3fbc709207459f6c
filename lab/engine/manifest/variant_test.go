package manifest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"spillway.dev/lab/engine/local/podenv"
)

// ofClusters are components that change what only a cluster has; tools/manifests
// tests them on the overlays of clusters.
var ofClusters = []string{
	"cluster-autoscaler", "istio", "keda", "keda-workload", "linkerd", "mtls", "namespace-spillway", "network-policies", "prometheus-adapter", "spot",
}

// One rendering of the whole mesh is dear: everything that is known of a component
// is checked on the same one.
func TestEveryComponentIsUnderstood(t *testing.T) {
	root := filepath.Join(repository, "k8s")
	entries, err := os.ReadDir(filepath.Join(root, componentsDir))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Load(root, "overlays/local")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if slices.Contains(ofClusters, entry.Name()) {
			continue
		}
		m, err := LoadVariant(root, "overlays/local", Variant{Components: []string{entry.Name()}}, t.TempDir())
		if err != nil {
			t.Error(err)
			continue
		}
		for _, i := range m.Ignored {
			if !i.Expected {
				t.Errorf("%s: no rule says what becomes of %s (%v)", entry.Name(), i.What, i.Objects)
			}
		}
		// Who calls whom is the same by whatever way, so that the mesh stops in the
		// same order.
		if got, want := m.Stages(), plain.Stages(); !slices.EqualFunc(got, want, slices.Equal[[]string]) {
			t.Errorf("%s: stages %v, want %v", entry.Name(), got, want)
		}
		if strings.HasPrefix(entry.Name(), "balancing-") && entry.Name() != "balancing-xds" {
			checkClusterIP(t, entry.Name(), m)
		}
	}
}

// checkClusterIP checks that no caller is left on the mesh's own balancing.
func checkClusterIP(t *testing.T, component string, m *Mesh) {
	t.Helper()
	aged := 0
	for _, d := range m.Deployments {
		for _, e := range d.Spec.Template.Spec.Containers[0].Env {
			if strings.HasPrefix(e.Value, "xds:///") {
				t.Errorf("%s: %s still has %s=%s", component, d.Name, e.Name, e.Value)
			}
			aged += strings.Count(e.Name, "SPILLWAY_GRPC_MAX_CONNECTION_AGE")
		}
	}
	if want := map[string]int{"balancing-max-age": 7}[component]; aged != want {
		t.Errorf("%s: %d callees end old connections, want %d", component, aged, want)
	}
	// The kubelet's rules put the addresses in.
	d := m.Deployment("catalog")
	env, _, err := podenv.Container(d.Spec.Template.Spec.Containers[0], podenv.Source{
		Pod: podenv.Pod{Labels: d.Spec.Template.Labels}, ConfigMaps: m.ConfigMaps,
		Links: map[string]string{"INVENTORY_SERVICE_HOST": "127.0.0.1", "INVENTORY_SERVICE_PORT": "9"},
	})
	if err != nil || !slices.Contains(env, "SPILLWAY_INVENTORY_TARGET=127.0.0.1:9") || !*d.Spec.Template.Spec.EnableServiceLinks {
		t.Errorf("%s: environment %q, %v", component, env, err)
	}
}

func scale(n string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: echo}\nspec: {replicas: " + n + "}\n"
}

// files lays out manifests with an overlay "local" and a component "more".
func files(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"local/kustomization.yaml":           "resources: [echo.yaml]\n",
		"local/echo.yaml":                    deployment,
		"components/more/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: [{path: two.yaml}]\n",
		"components/more/two.yaml":           scale("2"),
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestVariantIsAppliedInOrder(t *testing.T) {
	root := files(t)
	json := Patch{Target: Selector{Kind: "Deployment", Name: "ec.*"}, Patch: "- {op: replace, path: /spec/replicas, value: 4}\n"}
	for _, test := range []struct {
		name string
		v    Variant
		want int32
	}{
		{"nothing", Variant{}, 0},
		{"a component", Variant{Components: []string{"more"}}, 2},
		{"a patch", Variant{Patches: []Patch{{Patch: scale("3")}}}, 3},
		{"a patch with a target", Variant{Patches: []Patch{{Target: Selector{Kind: "Deployment"}, Patch: scale("3")}}}, 3},
		{"a patch after a component", Variant{Components: []string{"more"}, Patches: []Patch{json}}, 4},
		{"a patch after a patch", Variant{Patches: []Patch{{Patch: scale("3")}, json}}, 4},
	} {
		// The second time the directory is there.
		scratch := filepath.Join(t.TempDir(), "variant")
		for range 2 {
			m, err := LoadVariant(root, "local", test.v, scratch)
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			var got int32
			if n := m.Deployment("echo").Spec.Replicas; n != nil {
				got = *n
			}
			if got != test.want {
				t.Errorf("%s: %d replicas, want %d", test.name, got, test.want)
			}
		}
	}
}

// State directories are often reached through a link.
func TestVariantBehindALink(t *testing.T) {
	root := files(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	real := t.TempDir()
	scratch := filepath.Join(t.TempDir(), "scratch")
	if err := os.Symlink(real, scratch); err != nil {
		t.Fatal(err)
	}
	m, err := LoadVariant(link, "local", Variant{Components: []string{"more"}}, filepath.Join(scratch, "variant"))
	if err != nil || *m.Deployment("echo").Spec.Replicas != 2 {
		t.Errorf("%v", err)
	}
}

func TestVariantRefuses(t *testing.T) {
	root := files(t)
	for _, test := range []struct {
		name, want string
		v          Variant
	}{
		{"a component that is not there", `there is no component "mroe" under k8s/components; there are: more`, Variant{Components: []string{"mroe"}}},
		{"a component from elsewhere", `there is no component "../components/more"`, Variant{Components: []string{"../components/more"}}},
		{"an empty patch", "patch 1 of the variant is empty", Variant{Patches: []Patch{{Target: Selector{Name: "echo"}}}}},
		{"a target that is no expression", "patch 1 of the variant: target.name", Variant{Patches: []Patch{{Target: Selector{Name: "("}, Patch: "x"}}}},
		{
			"a target that is not there", `patch 2 of the variant meets nothing: no object has kind "Deployment" and name "ech"`,
			Variant{Patches: []Patch{{Patch: scale("1")}, {Target: Selector{Kind: "Deployment", Name: "ech"}, Patch: scale("2")}}},
		},
		{"a patch of nobody", `Deployment.v1.apps/other`, Variant{Patches: []Patch{{Patch: strings.ReplaceAll(scale("2"), "echo", "other")}}}},
		{"an unknown field", `Deployment echo: unknown field "spec.replicass" (in patch-1.yaml)`, Variant{Patches: []Patch{{Patch: strings.ReplaceAll(scale("2"), "replicas", "replicass")}}}},
		{"no YAML", "apply the variant to k8s/local", Variant{Patches: []Patch{{Patch: "{"}}}},
	} {
		if _, err := LoadVariant(root, "local", test.v, filepath.Join(t.TempDir(), "variant")); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// A patch that removes what another one names has met it all the same.
func TestVariantMayRemove(t *testing.T) {
	root := files(t)
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: echo}\n"
	if err := os.WriteFile(filepath.Join(root, "local/echo.yaml"), []byte(deployment+"---\n"+service), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := LoadVariant(root, "local", Variant{Patches: []Patch{{
		Target: Selector{Kind: "Service", Name: "echo"}, Patch: service + "$patch: delete\n",
	}}}, filepath.Join(t.TempDir(), "variant"))
	if err != nil || len(m.Services) != 0 {
		t.Errorf("%v", err)
	}
}

func TestAutoscalersAreChecked(t *testing.T) {
	hpa := func(name, target, bounds string) string {
		return "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: " + name + "}\nspec:\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: " + target + "}\n  " + bounds + "\n"
	}
	m, err := Decode([]byte(deployment + hpa("b", "echo", "maxReplicas: 3")))
	if err != nil || len(m.HPAs) != 1 || m.HPAs[0].Spec.MaxReplicas != 3 || len(m.Ignored) != 0 {
		t.Errorf("%v, %v", m, err)
	}
	for _, test := range []struct{ name, text, want string }{
		{"a target that is not there", hpa("b", "ech", "maxReplicas: 3"), `names Deployment "ech"; there is no such`},
		{"two of one target", hpa("a", "echo", "maxReplicas: 3") + hpa("b", "echo", "maxReplicas: 3"), "which a scales already"},
		{"no maximum", hpa("b", "echo", "minReplicas: 2"), "from spec.minReplicas 2 to spec.maxReplicas 0"},
		{"a maximum below the minimum", hpa("b", "echo", "minReplicas: 4\n  maxReplicas: 3"), "from spec.minReplicas 4 to spec.maxReplicas 3"},
		{"an unknown field", hpa("b", "echo", "maxReplicas: 3\n  behaviour: {}"), `HorizontalPodAutoscaler b: unknown field "spec.behaviour"`},
	} {
		if _, err := Decode([]byte(deployment + test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestLinkName(t *testing.T) {
	if got := LinkName("otel-collector"); got != "OTEL_COLLECTOR" {
		t.Errorf("got %s", got)
	}
}

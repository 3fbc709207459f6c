package manifests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// k8s is the directory that all of it reads.
const k8s = "../../k8s"

// overlays of a cluster. That of one machine is tested where it is read.
var overlays = []string{"overlays/kind", "overlays/ci", "overlays/cluster"}

// namespace is the component that comes after every other: it puts what they add
// into the namespace of the mesh.
const namespace = "namespace-spillway"

// The choices that exclude each other: one of each at most. All other components
// go together, but for mtls, which does what the proxies of a service mesh do.
var choices = [][]string{
	{"scaling-fixed", "scaling-cpu", "scaling-pressure", "scaling-demand", "scaling-workload", "scaling-coordinated", "scaling-callers-cpu", "keda", "keda-workload"},
	{"balancing-xds", "balancing-clusterip", "balancing-max-age", "istio", "linkerd"},
	{"capacity-model", "capacity-cpu"},
}

// choiceOf is the index of the choice that a component belongs to, or -1.
func choiceOf(component string) int {
	return slices.IndexFunc(choices, func(c []string) bool { return slices.Contains(c, component) })
}

// components are all that there are, those that go with every other one apart.
func components(t *testing.T) (all, free []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(k8s, "components"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(k8s, "components", e.Name(), "kustomization.yaml")); err != nil {
			t.Errorf("k8s/components/%s: %v", e.Name(), err)
			continue
		}
		if e.Name() == namespace {
			continue
		}
		all = append(all, e.Name())
		if choiceOf(e.Name()) < 0 {
			free = append(free, e.Name())
		}
	}
	for _, choice := range choices {
		for _, name := range choice {
			if !slices.Contains(all, name) {
				t.Errorf("there is no component %s", name)
			}
		}
	}
	return all, free
}

// combinations are each overlay alone, with each component, and with one of each
// choice and all that go with every other.
func combinations(t *testing.T) []Combination {
	t.Helper()
	all, free := components(t)
	list := []Combination{{Overlay: "mesh"}}
	for _, overlay := range overlays {
		list = append(list, Combination{Overlay: overlay})
		for _, one := range all {
			list = append(list, Combination{overlay, []string{one, namespace}})
		}
		// All at once on one overlay for every pair of ways, on the others for each way.
		for i, scaling := range choices[0] {
			for j, balancing := range choices[1] {
				if overlay == "overlays/kind" || i%len(choices[1]) == j {
					capacity, others := choices[2][(i+j)%len(choices[2])], slices.Clone(free)
					if balancing == "istio" || balancing == "linkerd" {
						others = slices.DeleteFunc(others, func(name string) bool { return name == "mtls" })
					}
					list = append(list, Combination{overlay, slices.Concat([]string{scaling, balancing}, others, []string{capacity, namespace})})
				}
			}
		}
	}
	return list
}

func (c Combination) String() string {
	return strings.Join(append([]string{filepath.Base(c.Overlay)}, c.Components...), "+")
}

func read(t *testing.T, c Combination) Objects {
	t.Helper()
	text, err := c.Render(k8s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	objects, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// Every combination renders, is what Kubernetes' types say, and keeps the rules of
// invariants_test.go.
func TestCombinations(t *testing.T) {
	schemas := readSchemas(t)
	for _, c := range combinations(t) {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			objects := read(t, c)
			for _, custom := range objects.Custom {
				if err := schemas.check(custom); err != nil {
					t.Error(err)
				}
			}
			for _, complaint := range complaints(objects) {
				t.Error(complaint)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
	for _, test := range []struct{ name, text, want string }{
		{"an unknown field", service + "spec: {portss: []}\n", `unknown field "spec.portss"`},
		{"a field twice", service + "kind: Service\n", `key "kind" already set`},
		{"an object twice", service + "---\n" + service, "Service /a is there twice"},
		{"an unknown field of an APIService", "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: a}\nspec: {groups: x}\n", `unknown field "spec.groups"`},
	} {
		if _, err := Decode([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

package manifest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"spillway.dev/platform/mesh"
	"spillway.dev/platform/programme"

	"spillway.dev/lab/engine/local/podenv"
)

var update = flag.Bool("update", false, "write the golden files anew")

// repository holds k8s/.
const repository = "../../.."

func TestLocalOverlay(t *testing.T) {
	got, err := Render(filepath.Join(repository, "k8s/overlays/local"))
	if err != nil {
		t.Fatal(err)
	}
	golden := "testdata/local.golden.yaml"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("k8s/overlays/local renders differently from %s; look at the difference and run the test with -update", golden)
	}
}

func TestLocalOverlayIsUnderstood(t *testing.T) {
	m, err := Load(filepath.Join(repository, "k8s"), "overlays/local")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range m.Deployments {
		names = append(names, d.Name)
	}
	want := []string{"bank", "catalog", "gateway", "inventory", "order", "payment", "session", "ticketing"}
	if !slices.Equal(names, want) {
		t.Errorf("Deployments %v, want %v", names, want)
	}
	for _, i := range m.Ignored {
		if !i.Expected {
			t.Errorf("no rule says what becomes of %s (%v)", i.What, i.Objects)
		}
	}
	// Callers before those they call: the order in which the mesh stops.
	stages := m.Stages()
	stage := func(name string) int {
		return slices.IndexFunc(stages, func(s []string) bool { return slices.Contains(s, name) })
	}
	for _, pair := range [][2]string{{"gateway", "order"}, {"gateway", "session"}, {"catalog", "inventory"}, {"order", "inventory"}, {"order", "payment"}, {"payment", "bank"}} {
		if stage(pair[0]) >= stage(pair[1]) {
			t.Errorf("%s must stop before %s: %v", pair[0], pair[1], stages)
		}
	}
}

// Every service of the mesh is told the same about the control plane as what
// platform/mesh would tell it.
func TestBootstrap(t *testing.T) {
	m, err := Load(filepath.Join(repository, "k8s"), "overlays/local")
	if err != nil {
		t.Fatal(err)
	}
	m.ConfigMaps["mesh"].Data["xds"] = "127.0.0.1:18000"
	for _, d := range m.Deployments {
		env, _, err := podenv.Container(d.Spec.Template.Spec.Containers[0], podenv.Source{
			Pod:        podenv.Pod{Name: d.Name + "-1", Labels: d.Spec.Template.Labels},
			ConfigMaps: m.ConfigMaps,
			Offered:    map[string]string{},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		for _, e := range env {
			if text, ok := strings.CutPrefix(e, "GRPC_XDS_BOOTSTRAP_CONFIG="); ok {
				if err := json.Unmarshal([]byte(text), &got); err != nil {
					t.Fatalf("%s: %v in %s", d.Name, err, text)
				}
			}
		}
		if err := json.Unmarshal([]byte(mesh.Bootstrap("127.0.0.1:18000", d.Name, d.Name+"-1")), &want); err != nil {
			t.Fatal(err)
		}
		gotText, _ := json.Marshal(got)
		wantText, _ := json.Marshal(want)
		if !bytes.Equal(gotText, wantText) {
			t.Errorf("%s: bootstrap %s, want %s", d.Name, gotText, wantText)
		}
	}
}

func TestProgramme(t *testing.T) {
	p, err := programme.Load(filepath.Join(repository, "k8s/base/programme.json"))
	if err != nil {
		t.Fatal(err)
	}
	seats := 0
	for _, s := range p.Shows {
		seats += s.Seats()
	}
	// A quarter of an hour of 20 purchases a second.
	if seats < 18000 {
		t.Errorf("%d seats are sold out too soon", seats)
	}
}

// Kubernetes counts the preStop sleep and the drain in the grace period.
func TestGracePeriodHoldsTheDrain(t *testing.T) {
	for _, overlay := range []string{"base", "overlays/local"} {
		m, err := Load(filepath.Join(repository, "k8s"), overlay)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range m.Deployments {
			spec := d.Spec.Template.Spec
			const drain = 10 // SPILLWAY_DRAIN_TIMEOUT in seconds
			sleep := spec.Containers[0].Lifecycle.PreStop.Sleep.Seconds
			if *spec.TerminationGracePeriodSeconds <= sleep+drain {
				t.Errorf("%s in %s: grace period %d s, preStop sleep %d s, drain %d s", d.Name, overlay, *spec.TerminationGracePeriodSeconds, sleep, drain)
			}
		}
	}
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
        - name: service
          image: test/echo
`

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"an unknown field", deployment + "          imagee: x\n", `Deployment echo: unknown field "spec.template.spec.containers[0].imagee"`},
		{"an unknown field in another case", strings.Replace(deployment, "containers:", "Containers:", 1), `unknown field "spec.template.spec.Containers"`},
		{"a field twice", deployment + "          image: y\n", `key "image" already set`},
		{"a wrong type", strings.Replace(deployment, "spec:\n", "spec:\n  replicas: many\n", 1), "Deployment echo: "},
		{"a negative number", strings.Replace(deployment, "spec:\n", "spec:\n  replicas: -1\n", 1), "spec.replicas is -1"},
		{"a selector that selects others", strings.Replace(deployment, "matchLabels: {app: echo}", "matchLabels: {app: other}", 1), "spec.selector"},
		{"two containers", deployment + "        - {name: two, image: x}\n", "2 containers"},
		{"a volume from nowhere", deployment + "      volumes: [{name: v, configMap: {name: none}}]\n", "no ConfigMap none"},
		{"a kind of volume that is not here", deployment + "      volumes: [{name: v, hostPath: {path: /}}]\n", "volume v"},
		{"an object without a name", "apiVersion: v1\nkind: Service\n", "metadata.name"},
		{"an unknown field of an idle kind", "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\nnone: 1\n", `unknown field "none"`},
	} {
		if _, err := Decode([]byte(test.text), t.TempDir()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestDecodeNamesWhatItIgnores(t *testing.T) {
	m, err := Decode([]byte(deployment+`          tty: true
          startupProbe: {exec: {command: [x]}}
          resources: {limits: {cpu: "1"}}
---
apiVersion: example.org/v1
kind: Widget
metadata: {name: w}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: echo}
`), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range m.Ignored {
		got = append(got, i.What)
	}
	want := []string{
		"Deployment spec.template.spec.containers[].resources.limits",
		"Deployment spec.template.spec.containers[].startupProbe.exec.command[]",
		"Deployment spec.template.spec.containers[].tty",
		"PodDisruptionBudget",
		"Widget",
	}
	if !slices.Equal(got, want) {
		t.Errorf("ignored %q, want %q", got, want)
	}
}

func TestMistakeIsFoundInItsFile(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"base/kustomization.yaml":  "resources: [echo.yaml]\n",
		"base/echo.yaml":           deployment,
		"local/kustomization.yaml": "resources: [../base]\npatches: [{path: more.yaml}]\n",
		"local/more.yaml":          "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: echo}\nspec: {replicass: 2}\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Load(root, "local")
	if want := `Deployment echo: unknown field "spec.replicass" (in local/more.yaml)`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestStagesOfARing(t *testing.T) {
	calls := func(name, callee string) string {
		text := strings.ReplaceAll(deployment, "echo", name)
		return text + "          env: [{name: T, value: xds:///" + callee + "}]\n---\n"
	}
	m, err := Decode([]byte(calls("edge", "a")+calls("a", "b")+calls("b", "a")), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(m.Stages())
	if want := `[["edge"],["a","b"]]`; string(got) != want {
		t.Errorf("stages %s, want %s", got, want)
	}
}

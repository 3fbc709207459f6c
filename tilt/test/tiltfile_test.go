package test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

// root is the repository by another name, so that what evaluations write does not
// reach a `tilt up` that runs on it.
func root(t *testing.T) string {
	t.Helper()
	real, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != ".tilt-build" {
			if err := os.Symlink(filepath.Join(real, entry.Name()), filepath.Join(dir, entry.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func evaluate(root string, manifests *Manifests, args ...string) (*Tilt, error) {
	tilt := &Tilt{Root: root, Context: "kind-spillway", Arch: "arm64", Subcommand: "up", Args: args, Manifests: manifests}
	return tilt, tilt.Evaluate()
}

var choices = map[string][]string{
	"scaling":       {"fixed", "callers-cpu", "cpu", "pressure", "demand", "workload", "coordinated"},
	"balancing":     {"xds", "clusterip", "max-age"},
	"capacity":      {"cpu", "model"},
	"observability": {"lite", "full", "none"},
	"images":        {"live", "static"},
}

// combinations are all ways to choose one value of each argument.
func combinations() []map[string]string {
	all := []map[string]string{{}}
	for _, name := range slices.Sorted(maps.Keys(choices)) {
		var longer []map[string]string
		for _, chosen := range all {
			for _, value := range choices[name] {
				c := maps.Clone(chosen)
				c[name] = value
				longer = append(longer, c)
			}
		}
		all = longer
	}
	return all
}

func TestEveryCombinationOfArguments(t *testing.T) {
	dir, manifests := root(t), NewManifests()
	for _, chosen := range combinations() {
		var args []string
		for _, name := range slices.Sorted(maps.Keys(chosen)) {
			args = append(args, "--"+name+"="+chosen[name])
		}
		t.Run(strings.Join(args, ","), func(t *testing.T) {
			tilt, err := evaluate(dir, manifests, args...)
			if err != nil {
				t.Fatal(err)
			}
			checkOrder(t, tilt)
			checkImages(t, tilt, chosen["images"] == "live")
			checkDoors(t, tilt, chosen["observability"])
			checkButtons(t, tilt, chosen)
			checkScaling(t, tilt, chosen["scaling"])
			checkCapacity(t, tilt, chosen["capacity"])
		})
	}
}

// The choices are the components that there are.
func TestChoicesAreTheComponents(t *testing.T) {
	dir, manifests := root(t), NewManifests()
	for argument, prefix := range map[string]string{"scaling": "scaling-", "balancing": "balancing-", "capacity": "capacity-"} {
		found, err := filepath.Glob(filepath.Join(repository, "k8s", "components", prefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, path := range found {
			names = append(names, strings.TrimPrefix(filepath.Base(path), prefix))
		}
		if want := slices.Sorted(slices.Values(choices[argument])); !slices.Equal(names, want) {
			t.Errorf("--%s: components %v, choices tested here %v", argument, names, want)
		}
		for _, name := range names {
			if _, err := evaluate(dir, manifests, "--"+argument+"="+name); err != nil {
				t.Errorf("--%s=%s: %v", argument, name, err)
			}
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	dir, manifests := root(t), NewManifests()
	for _, c := range []struct{ context, arch, arg, says string }{
		{"kind-spillway", "amd64", "--scaling=wild", `--scaling is "wild"; it is one of: pressure, fixed, callers-cpu, cpu, demand, workload, coordinated`},
		{"kind-spillway", "amd64", "--balancing=dns", `it is one of: xds, clusterip, max-age`},
		{"kind-spillway", "amd64", "--capacity=endless", `it is one of: model, cpu`},
		{"kind-spillway", "amd64", "--observability=some", `it is one of: lite, full, none`},
		{"kind-spillway", "amd64", "--images=old", `it is one of: live, static`},
		{"kind-spillway", "amd64", "--overlay=prod", `it is one of: kind, ci`},
		{"kind-spillway", "amd64", "--component=nothing", "there is no k8s/components/nothing/kustomization.yaml"},
		{"kind-spillway", "amd64", "--speed=9", "unknown argument"},
		{"kind-spillway", "s390x", "--scaling=cpu", "there are images for amd64 and arm64"},
		{"production", "amd64", "--scaling=cpu", "run `make kind`"},
		{"production", "amd64", "--context=staging", "run `make kind`"},
	} {
		tilt := &Tilt{Root: dir, Context: c.context, Arch: c.arch, Subcommand: "up", Args: []string{c.arg}, Manifests: manifests}
		if err := tilt.Evaluate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s on %s (%s): %v, want %q", c.arg, c.context, c.arch, err, c.says)
		}
		if len(tilt.Objects) > 0 {
			t.Errorf("%s on %s: objects were handed over all the same", c.arg, c.context)
		}
	}
}

func TestAContextThatIsNamed(t *testing.T) {
	tilt := &Tilt{Root: root(t), Context: "lab", Arch: "amd64", Subcommand: "ci", Args: []string{"--context=lab", "--overlay=ci", "--images=static"}, Manifests: NewManifests()}
	if err := tilt.Evaluate(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(tilt.Allowed, []string{"lab"}) {
		t.Errorf("allowed contexts: %v", tilt.Allowed)
	}
	checkOrder(t, tilt)
	// No image of this overlay comes from a registry.
	for _, o := range tilt.Objects {
		for _, c := range o.Containers() {
			if image := c["image"].(string); !strings.HasPrefix(image, "spillway/") {
				t.Errorf("%s uses %s, which a test machine does not have", o, image)
			}
		}
	}
	for image, build := range tilt.Builds {
		if build.Push || build.Command == "" {
			t.Errorf("%s is pushed, or built by docker", image)
		}
	}
}

// after tells whether a resource waits, over others, for another.
func after(tilt *Tilt, resource, other string) bool {
	for _, dep := range deps(tilt, resource) {
		if dep == other || after(tilt, dep, other) {
			return true
		}
	}
	return false
}

func deps(tilt *Tilt, resource string) []string {
	if r := tilt.Resources[resource]; r != nil {
		return r.Deps
	}
	return nil
}

var services = []string{"gateway", "session", "catalog", "inventory", "order", "payment", "bank", "ticketing"}

func checkOrder(t *testing.T, tilt *Tilt) {
	t.Helper()
	for name, r := range tilt.Resources {
		if len(r.Labels) != 1 {
			t.Errorf("resource %s is in %d groups", name, len(r.Labels))
		}
		for _, dep := range r.Deps {
			if tilt.Resources[dep] == nil && tilt.Locals[dep] == nil {
				t.Errorf("%s waits for %s, which is not there", name, dep)
			}
		}
	}
	for _, service := range services {
		for _, first := range []string{"redis", "nats", "conductor", "mesh-objects"} {
			if !after(tilt, service, first) {
				t.Errorf("%s does not wait for %s", service, first)
			}
		}
		if service != "gateway" && !after(tilt, "gateway", service) {
			t.Errorf("the gateway does not wait for %s", service)
		}
		if tilt.Builds["spillway/"+service] != nil && tilt.Locals["compile-"+service] != nil && !after(tilt, service, "compile-"+service) {
			t.Errorf("%s does not wait for its binary", service)
		}
	}
	for _, first := range []string{"redis", "nats"} {
		if !after(tilt, "conductor", first) {
			t.Errorf("the conductor does not wait for %s", first)
		}
	}
	// It is ready when the mesh has a Service, and those come with the services'
	// workloads, which come after it: who waited for its pods would wait for ever.
	if tilt.Resources["conductor"].Readiness != "ignore" {
		t.Error("the services wait until the conductor is ready, and it waits for them")
	}
	for name, r := range tilt.Resources {
		for _, o := range r.Objects {
			if o.pod() != nil && o.namespace() == "observability" && !slices.Equal(r.Labels, []string{"observability"}) {
				t.Errorf("%s is in group %v", name, r.Labels)
			}
		}
	}
}

var pinned = regexp.MustCompile(`:v?[0-9][^:]*$|@sha256:[0-9a-f]{64}$`)

func checkImages(t *testing.T, tilt *Tilt, live bool) {
	t.Helper()
	used := map[string]bool{}
	for _, o := range tilt.Objects {
		for _, c := range o.Containers() {
			image := c["image"].(string)
			name, _, _ := strings.Cut(image, ":")
			used[name] = true
			if !pinned.MatchString(image) {
				t.Errorf("%s: image %s has no version", o, image)
			}
			if strings.HasPrefix(name, "spillway/") && tilt.Builds[name] == nil {
				t.Errorf("%s: nothing builds %s", o, image)
			}
			if tilt.Builds[name] == nil || o.Kind != "Deployment" {
				continue
			}
			if readOnly := at(c, "securityContext", "readOnlyRootFilesystem"); readOnly != !live {
				t.Errorf("%s: readOnlyRootFilesystem is %v with images %v", o, readOnly, map[bool]string{true: "live", false: "static"}[live])
			}
		}
	}
	for _, service := range append(slices.Clone(services), "conductor") {
		if !used["spillway/"+service] {
			t.Errorf("no workload uses spillway/%s", service)
		}
	}
	for image, build := range tilt.Builds {
		service := strings.TrimPrefix(image, "spillway/")
		if !used[image] {
			t.Errorf("%s is built and not used", image)
		}
		if !live {
			if build.Push || len(build.LiveUpdate) > 0 || !strings.Contains(build.Command, "scripts/image-load \"$EXPECTED_REF\" "+service+" arm64") {
				t.Errorf("%s: %+v", image, build)
			}
			continue
		}
		compile := tilt.Locals["compile-"+service]
		if compile == nil || !slices.Equal(compile.Command, []string{"tilt/live-update/compile", service, "arm64"}) {
			t.Fatalf("%s is not compiled here for the nodes: %+v", service, compile)
		}
		for _, dep := range compile.Deps {
			if _, err := os.Stat(dep); err != nil {
				t.Errorf("compile-%s watches what is not there: %v", service, err)
			}
		}
		want := []string{fmt.Sprintf("sync %s/spillway /app/spillway", build.Context), "run /app/supervise restart"}
		if !slices.Equal(build.LiveUpdate, want) {
			t.Errorf("%s is updated by %v, want %v", image, build.LiveUpdate, want)
		}
	}
}

func checkDoors(t *testing.T, tilt *Tilt, observability string) {
	t.Helper()
	want := map[string][]string{
		"none": {"gateway:8080", "gateway:9000"},
		"lite": {"gateway:8080", "gateway:9000", "alertmanager:9093", "grafana:3000", "jaeger:16686", "prometheus:9090"},
		"full": {"gateway:8080", "gateway:9000", "alertmanager:9093", "grafana:3000", "jaeger:16686", "prometheus:9090"},
	}[observability]
	var doors []string
	taken := map[int]string{}
	for name, r := range tilt.Resources {
		for _, f := range r.Forwards {
			doors = append(doors, fmt.Sprintf("%s:%d", name, f.Local))
			if other := taken[f.Local]; other != "" {
				t.Errorf("%s and %s both want port %d", name, other, f.Local)
			}
			taken[f.Local] = name
			if f.Name == "" {
				t.Errorf("the link to %s has no name", name)
			}
			if !opens(r, f.Container) {
				t.Errorf("%s: no container has port %d", name, f.Container)
			}
		}
	}
	for _, door := range want {
		if !slices.Contains(doors, door) {
			t.Errorf("no door %s; there are %v", door, doors)
		}
	}
}

func opens(r *Resource, port int) bool {
	for _, o := range r.Objects {
		for _, c := range o.Containers() {
			ports, _ := c["ports"].([]any)
			for _, p := range ports {
				if at(p, "containerPort") == float64(port) {
					return true
				}
			}
		}
	}
	return false
}

var variable = regexp.MustCompile(`"\$([a-z]+)"`)

func checkButtons(t *testing.T, tilt *Tilt, chosen map[string]string) {
	t.Helper()
	want := []string{"buy", "drop", "slow-bank", "scaling"}
	for _, service := range services {
		if service != "bank" {
			want = append(want, "scale-"+service)
		}
	}
	if have := slices.Sorted(maps.Keys(tilt.Buttons)); !slices.Equal(have, slices.Sorted(slices.Values(want))) {
		t.Errorf("buttons %v, want %v", have, want)
	}
	for id, b := range tilt.Buttons {
		if b.Kind == "Resource" && tilt.Resources[b.Resource] == nil {
			t.Errorf("button %s is on %s, which is not there", id, b.Resource)
		}
		// What a command reads from its button are the button's inputs, and all of them.
		var read []string
		for _, found := range variable.FindAllStringSubmatch(strings.Join(b.Args, " "), -1) {
			read = append(read, found[1])
		}
		if !slices.Equal(slices.Sorted(slices.Values(read)), slices.Sorted(slices.Values(b.Inputs))) {
			t.Errorf("button %s asks for %v and its command reads %v", id, b.Inputs, read)
		}
	}
	b := tilt.Buttons["scaling"]
	for name, value := range chosen {
		if keeps := "--" + name + "=" + value; name != "scaling" && (b == nil || !strings.Contains(strings.Join(b.Args, " "), keeps)) {
			t.Errorf("another scaling than %s would lose %s", chosen["scaling"], keeps)
		}
	}
}

// checkCapacity finds out which services burn CPU.
func checkCapacity(t *testing.T, tilt *Tilt, capacity string) {
	t.Helper()
	for _, o := range tilt.Objects {
		if o.Kind != "Deployment" || !slices.Contains(services, o.Metadata.Name) {
			continue
		}
		env := map[string]any{}
		list, _ := at(o.Containers()[0], "env").([]any)
		for _, e := range list {
			env[at(e, "name").(string)] = at(e, "value")
		}
		burns := env["SPILLWAY_CAPACITY_KIND"] == "cpu" && env["SPILLWAY_CAPACITY_SLOTS"] == "1" && env["GOMAXPROCS"] == "2"
		if want := capacity == "cpu" && o.Metadata.Name != "bank"; burns != want {
			t.Errorf("--capacity=%s: %s burns CPU: %v; its environment is %v", capacity, o.Metadata.Name, burns, env)
		}
	}
}

func checkScaling(t *testing.T, tilt *Tilt, scaling string) {
	t.Helper()
	r := tilt.Resources["autoscalers"]
	if scaling == "fixed" {
		if r != nil {
			t.Errorf("fixed, and %d autoscalers", len(r.Objects))
		}
		return
	}
	if r == nil || len(r.Objects) < 2 {
		t.Fatalf("no autoscalers: %+v", r)
	}
	for _, o := range r.Objects {
		if o.namespace() != "spillway" || o.Metadata.Labels["spillway.dev/scaling"] != scaling {
			t.Errorf("%s has labels %v", o, o.Metadata.Labels)
		}
	}
}

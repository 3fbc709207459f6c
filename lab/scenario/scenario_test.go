package scenario

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/fault"
	"spillway.dev/lab/load"
	"spillway.dev/lab/nodepool"
	"spillway.dev/lab/scenario/strict"
)

var update = flag.Bool("update", false, "write the golden files anew")

// good is the example that has every key.
const good = "testdata/good/scale-out.yaml"

func read(t *testing.T, path string) *Scenario {
	t.Helper()
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryKeyIsRead(t *testing.T) {
	s := read(t, good)
	equal := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %+v\nwant %+v", what, got, want)
		}
	}
	equal("name", s.Name, "scale-out")
	equal("question", s.Question, "What happens to inventory when its callers scale out and it does not?")
	equal("document", s.Document, "docs/scenarios/scale-out.md")
	equal("duration", s.Duration, 6*time.Minute)
	equal("warmup", s.Warmup, time.Minute)
	equal("start-up", s.StartUp, 20*time.Second)
	equal("timelapse", s.Timelapse, 10.0)
	equal("cost", s.Cost, "node_seconds")
	equal("path", s.Path, good)
	equal("visits", s.Visits, map[string]map[string]float64{"bank": {"buy": 1}, "inventory": {"browse": 1, "seatmap": 1, "buy": 3}})
	equal("faults, in order of time", s.Faults, []TimedFault{
		{At: 2 * time.Minute, Fault: fault.Fault{Kill: &fault.Replicas{Service: "order", Replicas: 2}}},
		{At: 3 * time.Minute, Fault: fault.Fault{Latency: &fault.Edge{Caller: "gateway", Callee: "catalog", Share: 0.5, Delay: 200 * time.Millisecond}}},
		{At: 4 * time.Minute, For: 10 * time.Second, Fault: fault.Fault{SlowDown: &fault.SlowDown{Service: "inventory", Factor: 5}}},
	})
	equal("scale, in order of time", s.Scale, []Scaling{{100 * time.Second, "order", 4}, {5 * time.Minute, "order", 1}})
	equal("expectations", len(s.Expect), 4)
	equal("variants", s.names(), []string{"fixed", "callers", "ramp"})
}

func TestAVariantHasWhatItTakesFromTheScenario(t *testing.T) {
	s := read(t, good)
	fixed, callers, ramp := s.Variants[0], s.Variants[1], s.Variants[2]

	if want := []string{"small-replicas", "scaling-callers-cpu"}; !slices.Equal(callers.Components, want) {
		t.Errorf("components: got %q, want the scenario's first: %q", callers.Components, want)
	}
	if len(callers.Patches) != 2 || callers.Patches[0].Target.Name != "gateway|order" || !strings.Contains(callers.Patches[1].Patch, "maxReplicas") {
		t.Errorf("patches: got %+v, want the scenario's, then the variant's", callers.Patches)
	}
	want := map[string]map[string]string{"inventory": {"capacity.slowdown": "2"}, "order": {"start.delay": "5s"}}
	if !reflect.DeepEqual(callers.Knobs, want) {
		t.Errorf("knobs: got %v, want %v", callers.Knobs, want)
	}
	// What one variant changes must not leak into another.
	if want := map[string]map[string]string{"inventory": {"capacity.slowdown": "1.5"}}; !reflect.DeepEqual(fixed.Knobs, want) {
		t.Errorf("knobs of the first variant: got %v, want %v", fixed.Knobs, want)
	}
	if len(fixed.Components) != 1 || len(fixed.Patches) != 1 {
		t.Errorf("the first variant has %q and %d patches", fixed.Components, len(fixed.Patches))
	}

	if fixed.Load.Shape.Kind != "spike" || ramp.Load.Shape.Kind != "ramp" || ramp.Load.Shape.Peak != 0 {
		t.Errorf("shapes: got %+v and %+v", fixed.Load.Shape, ramp.Load.Shape)
	}
	for _, v := range s.Variants {
		if v.Load.For != 6*time.Minute || v.Load.People != 300 || v.Load.Journeys["seatmap"].Deadline != 1500*time.Millisecond {
			t.Errorf("%s: got the load %+v", v.Name, v.Load)
		}
	}
	base := nodepool.Config{
		CPU: 4, Min: 2, Max: 10, ProvisionDelay: 90 * time.Second, EmptyFor: 10 * time.Minute,
		Spot: &nodepool.Spot{OnDemand: 2, Every: 2 * time.Minute, Notice: 2 * time.Minute},
	}
	if !reflect.DeepEqual(*fixed.Nodes, base) {
		t.Errorf("nodes: got %+v, want %+v", *fixed.Nodes, base)
	}
	base.CPU, base.Min, base.Max = 64, 1, 1
	if !reflect.DeepEqual(*ramp.Nodes, base) {
		t.Errorf("nodes of ramp: got %+v, want %+v", *ramp.Nodes, base)
	}
}

func TestALoadMayStandInTheVariantsOnly(t *testing.T) {
	s, err := Parse("x.yaml", []byte(`
scenario: x
question: Why?
duration: 1m
variants:
  - {name: a, load: {shape: {kind: constant, rate: 1}}}
  - {name: b, load: {shape: {kind: constant, rate: 2}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Variants[0].Load.Shape.Rate != 1 || s.Variants[1].Load.Shape.Rate != 2 || s.Variants[0].Nodes != nil {
		t.Errorf("got %+v", s.Variants)
	}
}

func TestRatesAreReadBesideTheScenario(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.yaml")
	if err := os.WriteFile(filepath.Join(dir, "day.csv"), []byte("seconds,rate\n0,5\n30,50\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "scenario: x\nquestion: Why?\nduration: 1m\nload: {shape: {kind: csv, file: day.csv}}\nvariants: [{name: a}]\n"
	s, err := Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Variants[0].Load.Shape.RateAt(40 * time.Second); got != 50 {
		t.Errorf("rate at 40 s: got %v, want 50", got)
	}
	_, err = Parse(path, []byte(strings.Replace(text, "day.csv", "night.csv", 1)))
	if err == nil || !strings.HasPrefix(err.Error(), path+":4:33: ") || !strings.Contains(err.Error(), "night.csv") {
		t.Errorf("a file that is not there: got %v", err)
	}
}

// compare holds the text of an error against a golden file.
func compare(t *testing.T, golden string, err error) {
	t.Helper()
	got := []byte(err.Error() + "\n")
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, err := Load(path)
			if err == nil {
				t.Fatal("no mistake was found")
			}
			compare(t, strings.TrimSuffix(path, ".yaml")+".golden", err)
		})
	}
}

func TestAFileThatIsNotThere(t *testing.T) {
	if _, err := Load("testdata/none.yaml"); err == nil || !strings.Contains(err.Error(), "testdata/none.yaml") {
		t.Errorf("got %v", err)
	}
}

func TestSelect(t *testing.T) {
	s := read(t, good)
	names := func(vs []Variant) (names []string) {
		for _, v := range vs {
			names = append(names, v.Name)
		}
		return names
	}
	all, err := s.Select(nil)
	if err != nil || len(all) != 3 {
		t.Errorf("all: got %q, %v", names(all), err)
	}
	some, err := s.Select([]string{"ramp", "fixed"})
	if err != nil || !slices.Equal(names(some), []string{"fixed", "ramp"}) {
		t.Errorf("some: got %q, %v; want them in the file's order", names(some), err)
	}
	if len(s.Variants) != 3 {
		t.Error("selecting changed the scenario")
	}
	_, err = s.Select([]string{"fixd"})
	if want := `the scenario scale-out has no variant "fixd"; did you mean "fixed"? Known: callers, fixed, ramp`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAScenarioMayHaveOneTimelapseOnly(t *testing.T) {
	bound, free := read(t, good), &Scenario{}
	for _, tc := range []struct {
		scenario    *Scenario
		asked, want float64
	}{{free, 0, 1}, {free, 2.5, 2.5}, {bound, 0, 10}, {bound, 10, 10}} {
		if got, err := tc.scenario.TimelapseFor(tc.asked); err != nil || got != tc.want {
			t.Errorf("a file for %v, asked for %v: got %v, %v; want %v", tc.scenario.Timelapse, tc.asked, got, err, tc.want)
		}
	}
	_, err := bound.TimelapseFor(1)
	if err == nil {
		t.Fatal("a file for 10 runs at 1")
	}
	compare(t, "testdata/good/scale-out.timelapse.golden", err)
}

func TestServicesAreCheckedAgainstTheMesh(t *testing.T) {
	s := read(t, good)
	if err := s.CheckServices([]string{"gateway", "catalog", "inventory", "order", "bank"}); err != nil {
		t.Error(err)
	}
	err := s.CheckServices([]string{"gateway", "catalogue", "inventory", "orders", "bank"})
	want := strings.Join([]string{
		good + `:55:14: the mesh has no service "order"; did you mean "orders"? Known: bank, catalogue, gateway, inventory, orders`,
		good + `:67:21: the mesh has no service "order"; did you mean "orders"? Known: bank, catalogue, gateway, inventory, orders`,
		good + `:69:40: the mesh has no service "catalog"; did you mean "catalogue"? Known: bank, catalogue, gateway, inventory, orders`,
		good + `:72:23: the mesh has no service "order"; did you mean "orders"? Known: bank, catalogue, gateway, inventory, orders`,
		good + `:73:25: the mesh has no service "order"; did you mean "orders"? Known: bank, catalogue, gateway, inventory, orders`,
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// keysOf is every key that a type may be written with, nested ones included.
func keysOf(t reflect.Type, seen map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		keysOf(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			key, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if key == "-" || key == "" && options != "inline" {
				continue
			}
			if key != "" {
				seen[key] = true
			}
			keysOf(t.Field(i).Type, seen)
		}
	}
}

func TestEveryKeyIsDocumentedAndShown(t *testing.T) {
	document, err := os.ReadFile("../../docs/scenario-file.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	for _, part := range []reflect.Type{reflect.TypeFor[file](), reflect.TypeFor[load.Plan](), reflect.TypeFor[nodepool.Config]()} {
		keysOf(part, keys)
	}
	if len(keys) < 50 {
		t.Fatalf("found only %d keys", len(keys))
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !strings.Contains(string(document), "`"+key+"`") {
			t.Errorf("docs/scenario-file.md does not explain `%s`", key)
		}
	}
}

// TestTheDocumentsExamplesAreRead reads every YAML block of the document that is
// a whole scenario.
func TestTheDocumentsExamplesAreRead(t *testing.T) {
	document, err := os.ReadFile("../../docs/scenario-file.md")
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, block := range strings.Split(string(document), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		if !strings.HasPrefix(text, "scenario:") {
			continue
		}
		whole++
		if _, err := Parse("docs/scenario-file.md", []byte(text)); err != nil {
			t.Error(err)
		}
	}
	if whole == 0 {
		t.Error("the document shows no whole scenario")
	}
}

// undivided is a duration in a patch that belongs to a replica, in its
// environment or before it stops: no time-lapse divides it.
var undivided = regexp.MustCompile(`value: "?[0-9.]+(ms|s|m|h)\b|sleep: \{seconds:`)

// TestTheCatalogueIsRead reads every scenario that comes with the project, and
// makes the manifests of each variant: components that do not go together and
// patches that meet nothing are found before a run.
func TestTheCatalogueIsRead(t *testing.T) {
	const root = "../.."
	files, err := filepath.Glob(filepath.Join(root, "scenarios", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s := read(t, path)
			if want := strings.TrimSuffix(filepath.Base(path), ".yaml"); s.Name != want {
				t.Errorf("it is called %q; name it as its file: %q", s.Name, want)
			}
			if info, err := os.Stat(filepath.Join(root, s.Document)); err != nil || info.IsDir() {
				t.Errorf("its document %q is not there: %v", s.Document, err)
			}
			for _, v := range s.Variants {
				for _, p := range v.Patches {
					if found := undivided.FindString(p.Patch); found != "" && s.Timelapse == 0 {
						t.Errorf("variant %s patches in %q, which is right at one time-lapse only; say which with `timelapse`", v.Name, found)
					}
				}
				if v.Says == "" {
					t.Errorf("variant %s does not say what is different about it", v.Name)
				}
				mesh, err := manifest.LoadVariant(filepath.Join(root, "k8s"), "overlays/local", manifest.Variant{Components: v.Components, Patches: v.Patches}, t.TempDir())
				if err != nil {
					t.Errorf("variant %s: %v", v.Name, err)
					continue
				}
				var services []string
				for _, d := range mesh.Deployments {
					services = append(services, d.Name)
				}
				if err := s.CheckServices(services); err != nil {
					t.Errorf("variant %s: %v", v.Name, err)
				}
			}
		})
	}
}

// FuzzParse looks for files that are neither a scenario nor a list of mistakes.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{good, "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("x.yaml", text)
		if mistakes, ok := errors.AsType[strict.Errors](err); (err == nil) != (s != nil) || err != nil && (!ok || len(mistakes) == 0) {
			t.Errorf("got %v and %v", s, err)
		}
	})
}

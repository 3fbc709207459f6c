package bench

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBenchmarksAreReadAsTheyArePrinted(t *testing.T) {
	got := parseBenchmarks([]byte(strings.Join([]string{
		"goos: linux",
		"cpu: a thing of 3 GHz-2",
		"BenchmarkCall/decision,_newest-first-2   \t 1000000\t       103.5 ns/op\t      48 B/op\t       1 allocs/op",
		"BenchmarkLimiter \t 10\t 7 ns/op",
		"BenchmarkCPU-8 \t 10\t 1.4 all_ratio\t 12 ns/op\t 0 allocs/op",
		"BenchmarkCPU-8 is under way",
		"BenchmarkOther-8 10 1.4 all_ratio",
		"BenchmarkOdd-8 10 x ns/op",
		"--- BENCH: BenchmarkCall/on-2",
		"PASS",
	}, "\n")))
	want := map[string]Timing{
		"BenchmarkCall/decision,_newest-first": {103.5, 1},
		"BenchmarkLimiter":                     {7, 0},
		"BenchmarkCPU":                         {12, 0},
	}
	if len(got) != len(want) {
		t.Errorf("read %v, want %v", got, want)
	}
	for name, timing := range want {
		if got[name] != timing {
			t.Errorf("%s: read %v, want %v", name, got[name], timing)
		}
	}
}

func TestADecisionIsTheMedianOfItsRounds(t *testing.T) {
	d := Decision{Name: "breaker", Ours: Benchmark{"a", "BenchmarkOurs"}, Library: "lib", Bare: Benchmark{"a", "BenchmarkBare"}}
	round := func(ours, bare float64) map[Benchmark]Timing {
		return map[Benchmark]Timing{d.Ours: {ours, 2}, d.Bare: {Nanoseconds: bare}}
	}
	// The machine is at half its speed in the third round; in the last, one of the two told nothing.
	got := d.summarise([]map[Benchmark]Timing{round(100, 50), round(110, 50), round(220, 100), {d.Bare: {Nanoseconds: 50}}})
	if got.NsPerOp != 110 || got.AllocsPerOp != 2 || got.LibraryNsPerOp != 50 || got.Ratio != 2.2 {
		t.Errorf("%+v", got)
	}
	if none := d.summarise(nil); !math.IsNaN(none.NsPerOp) || none.Met() {
		t.Errorf("of no rounds: %+v", none)
	}
}

func TestTheDearestDecisionIsOneOfItsOwnProcess(t *testing.T) {
	took := func(name string, ns float64, remote bool) Timed {
		return Timed{Decision: Decision{Name: name, Remote: remote}, NsPerOp: ns}
	}
	if got := Dearest([]Timed{took("a", math.NaN(), false), took("b", 10, false), took("c", 30, false), took("d", 900, true), took("e", 20, false)}); got.Name != "c" {
		t.Errorf("the dearest is %s", got.Name)
	}
	if got := Dearest(nil); !math.IsNaN(got.NsPerOp) {
		t.Errorf("of none: %v", got)
	}
}

// Every benchmark that a decision names is one that its package has and nothing else: a name that is misspelt would leave
// a decision without figures.
func TestDecisionsNameBenchmarksThatThereAre(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Decisions() {
		if seen[d.Name] {
			t.Errorf("two decisions are named %s", d.Name)
		}
		seen[d.Name] = true
		if (d.Library == "") != (d.Bare == Benchmark{}) {
			t.Errorf("%s: library %q and its benchmark %v", d.Name, d.Library, d.Bare)
		}
		for _, b := range []Benchmark{d.Ours, d.Bare} {
			if b.Package == "" {
				continue
			}
			files, err := filepath.Glob(filepath.Join("..", b.Package, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			function, _, _ := strings.Cut(b.Name, "/")
			if !slices.ContainsFunc(files, func(file string) bool {
				text, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(text), "func "+function+"(b *testing.B)")
			}) {
				t.Errorf("%s: %s has no %s", d.Name, b.Package, function)
			}
		}
	}
}

// The two benchmarks of a decision are built, found by their names and read.
func TestADecisionIsMeasured(t *testing.T) {
	ours, bare := Benchmark{"outbound/breaker", "BenchmarkCall/closed"}, Benchmark{"outbound/breaker", "BenchmarkCall/library"}
	got, err := MeasureDecisions(t.Context(), "..", []Decision{{Name: "breaker", Ours: ours, Library: "gobreaker", Bare: bare}}, 1, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !(got[0].NsPerOp > 0) || !(got[0].LibraryNsPerOp > 0) || !(got[0].Ratio > 0) || !got[0].Met() {
		t.Errorf("measured %+v", got)
	}
}

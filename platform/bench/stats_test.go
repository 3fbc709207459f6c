package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	for _, tc := range []struct {
		name           string
		sample         []float64
		q1, median, q3 float64
	}{
		{"one value is all of them", []float64{3}, 3, 3, 3},
		{"an odd number has one in the middle", []float64{5, 1, 3}, 2, 3, 4},
		{"an even number has its middle between two", []float64{4, 1, 3, 2}, 1.75, 2.5, 3.25},
		{"one outlier moves nothing", []float64{1, 1, 1, 1, 1000}, 1, 1, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := slices.Clone(tc.sample)
			got := Describe(tc.sample)
			if want := (Spread{tc.q1, tc.median, tc.q3, len(tc.sample)}); got != want {
				t.Errorf("Describe(%v) = %+v, want %+v", tc.sample, got, want)
			}
			if !slices.Equal(before, tc.sample) {
				t.Errorf("the sample was changed to %v", tc.sample)
			}
		})
	}
	if got := Describe(nil); !math.IsNaN(got.Median) || got.N != 0 {
		t.Errorf("nothing has the median %v of %d, want NaN of 0", got.Median, got.N)
	}
}

// A machine that slows down to half its speed in the middle of a run changes every time, and no ratio.
func TestRatiosOfPairsAreBlindToDrift(t *testing.T) {
	baseline := []float64{10, 10, 20, 20, 0}
	side := []float64{15, 15, 30, 30, 15}
	got := Ratios(side, baseline)
	if want := []float64{1.5, 1.5, 1.5, 1.5}; !slices.Equal(got, want) {
		t.Errorf("Ratios = %v, want %v", got, want)
	}
}

func TestVerdicts(t *testing.T) {
	measures := []Measure{
		{Key: "a", Value: 1.6, Target: 1.6, Note: "kept"},
		{Key: "b", Value: 30, Target: 25, Note: "not kept"},
		{Key: "c", Value: math.NaN(), Target: 30, Note: "no redis-server"},
	}
	var out bytes.Buffer
	if err := Table(&out, measures); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, want := range []string{"VERDICT", " ok ", "MISSED by 20 %", "NOT MEASURED"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q, want it to say %q", i, lines[i], want)
		}
	}
	for i, want := range []bool{true, false, false} {
		if got := measures[i].Met(); got != want {
			t.Errorf("%s: met is %v, want %v", measures[i].Key, got, want)
		}
	}

	path := filepath.Join(t.TempDir(), "bin", "bench.json")
	nan := math.NaN()
	decisions := []Timed{
		{Decision: Decision{Name: "quick", Library: "lib", AtMost: 3}, NsPerOp: 200, AllocsPerOp: 1, LibraryNsPerOp: 100, Ratio: 2},
		{Decision: Decision{Name: "slow", Library: "lib", AtMost: 3}, NsPerOp: 400, LibraryNsPerOp: 100, Ratio: 4},
		{Decision: Decision{Name: "alone"}, NsPerOp: 50, LibraryNsPerOp: nan, Ratio: nan},
		{Decision: Decision{Name: "silent", Library: "lib"}, NsPerOp: nan, AllocsPerOp: nan, LibraryNsPerOp: nan, Ratio: nan},
	}
	out.Reset()
	if err := DecisionTable(&out, decisions); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"VERDICT", "ok", "MISSED", "50", "NOT MEASURED"} {
		if line := strings.Split(out.String(), "\n")[i]; !strings.Contains(line, want) {
			t.Errorf("line %d is %q, want it to say %q", i, line, want)
		}
	}
	for i, want := range []bool{true, false, true, false} {
		if got := decisions[i].Met(); got != want {
			t.Errorf("%s: met is %v, want %v", decisions[i].Name, got, want)
		}
	}
	if err := Write(path, measures, decisions); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	told := doc["decisions"].(map[string]any)
	if got := told["quick"].(map[string]any); got["ns_per_op"] != 200.0 || got["allocs_per_op"] != 1.0 || got["library"] != "lib" ||
		got["library_ns_per_op"] != 100.0 || got["ratio"] != 2.0 || got["at_most"] != 3.0 {
		t.Errorf("a decision is %v", got)
	}
	if got := told["alone"].(map[string]any); len(got) != 2 || told["silent"].(map[string]any)["ns_per_op"] != nil {
		t.Errorf("decisions are %v", told)
	}
	if doc["b"] != 30.0 || doc["c"] != nil || doc["targets"].(map[string]any)["c"] != 30.0 || doc["host"].(map[string]any)["go"] == "" {
		t.Errorf("bench.json is %s", text)
	}
}

func TestParseResident(t *testing.T) {
	got, err := parseResident("status", []byte("Name:\tsession\nVmHWM:\t   20000 kB\nVmRSS:\t   16384 kB\nRssAnon:\t   4096 kB\nThreads:\t8\n"))
	if want := (memory{rss: 16 << 20, anonymous: 4 << 20}); err != nil || got != want {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
	}
	if _, err := parseResident("status", []byte("Name:\tzombie\n")); err == nil {
		t.Error("a process without memory must be an error")
	}
}

package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"spillway.dev/lab/measure"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	pages  = flag.String("pages", "", "write reports of made-up data into this directory, to be looked at")
)

// small is a result that is quick to write and short to read.
func small() *Result { return sampleResult(120, 10, 3) }

func invalid(r *Result) *Result {
	r.Valid, r.Invalid = false, []string{"the host was busy: 97 % of its CPU on average, more than 90 %",
		"the generator was late: the 99th percentile of its lag is 14.2 ms, more than 5 ms"}
	return r
}

func TestPagesToLookAt(t *testing.T) {
	if *pages == "" {
		return
	}
	writeAll(t, *pages, map[string]*Result{"good": sampleResult(900, 10, 5), "bad": invalid(sampleResult(900, 10, 1))})
	page, _ := compareAll(t, *pages, "good", "bad")
	if err := os.WriteFile(filepath.Join(*pages, "compare.html"), page, 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeAll(t *testing.T, dir string, results map[string]*Result) {
	t.Helper()
	for name, r := range results {
		if err := Write(filepath.Join(dir, name), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := Catalogue(dir); err != nil {
		t.Fatal(err)
	}
}

func compareAll(t *testing.T, dir string, names ...string) (page []byte, text string) {
	t.Helper()
	var dirs []string
	for _, name := range names {
		dirs = append(dirs, filepath.Join(dir, name))
	}
	c, err := Compare(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	if page, err = c.Page(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	return page, b.String()
}

// Whatever changes on a page shows in a review.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	writeAll(t, dir, map[string]*Result{"one": small(), "two": invalid(sampleResult(120, 10, 1))})
	comparison, text := compareAll(t, dir, "one", "two")
	golden := map[string][]byte{"compare.html": comparison, "compare.txt": []byte(text)}
	for name, path := range map[string]string{"report.html": "one/index.html", "report.json": "one/report.json",
		"measures.csv": "one/csv/measures.csv", "load.csv": "one/csv/load.csv", "actions.csv": "one/csv/actions.csv",
		"catalogue.html": "index.html"} {
		golden[name] = read(t, filepath.Join(dir, path))
	}
	for name, got := range golden {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if want := read(t, path); !bytes.Equal(got, want) {
			t.Errorf("%s is not as the golden file has it, first in line %d:\n got %s\nwant %s\nif it is meant: go test -update, and look at it (go test -run TestPagesToLookAt -pages DIR)",
				name, firstDifference(got, want), lineOf(got, want), lineOf(want, got))
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func firstDifference(a, b []byte) int {
	la, lb := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(la), len(lb)) {
		if !bytes.Equal(la[i], lb[i]) {
			return i + 1
		}
	}
	return min(len(la), len(lb)) + 1
}

func lineOf(a, b []byte) string {
	lines := bytes.Split(a, []byte("\n"))
	line := string(lines[min(firstDifference(a, b), len(lines))-1])
	return line[:min(len(line), 300)]
}

// report.json is read by other programs: exactly these keys.
func TestSummarySchema(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, small()); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(read(t, filepath.Join(dir, "report.json")), &got); err != nil {
		t.Fatal(err)
	}
	keys := func(m map[string]any) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
	if want := "commit scenario seed timelapse valid variants"; keys(got) != want {
		t.Errorf("report.json has %s, want %s", keys(got), want)
	}
	for _, v := range got["variants"].([]any) {
		variant := v.(map[string]any)
		if keys(variant) != "measures name" {
			t.Errorf("a variant has %s", keys(variant))
		}
		measures := variant["measures"].(map[string]any)
		if len(measures) < 20 {
			t.Errorf("only %d measures", len(measures))
		}
		for key, m := range measures {
			if _, known := measure.Lookup(key); !known {
				t.Errorf("there is no measure %s", key)
			}
			if keys(m.(map[string]any)) != "high low median" {
				t.Errorf("%s has %s", key, keys(m.(map[string]any)))
			}
		}
	}
}

// A query that divides nothing by nothing gives NaN, which JSON does not have.
func TestWhatIsNotANumberIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	r := small()
	v := &r.Variants[0]
	nan := math.NaN()
	v.Measures["p99_ms"] = measure.Summary{Median: nan, Low: nan, High: nan}
	v.Recording.LagP99 = math.Inf(1)
	v.Recording.Load[2].P99 = nan
	v.Recording.Services[0].Pressure[3].V = nan
	before := len(v.Recording.Services[0].Pressure)
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	back, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, there := back.Variants[0].Measures["p99_ms"]; there {
		t.Error("p99_ms is still there")
	}
	if got := len(back.Variants[0].Recording.Services[0].Pressure); got != before-1 {
		t.Errorf("%d points of pressure, want %d", got, before-1)
	}
	if len(v.Recording.Services[0].Pressure) != before || !math.IsNaN(v.Measures["p99_ms"].Median) {
		t.Error("Write has changed what it was given")
	}
	page, _, _ := strings.Cut(string(read(t, filepath.Join(dir, "index.html"))), "<script>")
	if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
		t.Error("the page shows NaN or Inf")
	}
}

func TestCSV(t *testing.T) {
	dir := t.TempDir()
	r := small()
	r.Variants[0].Name = `a "quoted", name` + "\nwith a line"
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "csv", "*.csv"))
	if err != nil || len(files) != 9 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	units := []string{"_s", "_ms", "_ratio", "_per_s", "_count", "_replicas", "_calls"}
	words := []string{"variant", "measure", "unit", "median", "low", "high", "service", "caller", "callee", "reason", "fault", "kind", "class"}
	for _, path := range files {
		text := read(t, path)
		rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, column := range rows[0] {
			if !slices.Contains(words, column) && !slices.ContainsFunc(units, func(u string) bool { return strings.HasSuffix(column, u) }) {
				t.Errorf("%s: column %q has no unit", filepath.Base(path), column)
			}
		}
		if first, _, _ := bytes.Cut(text, []byte("\n")); !bytes.HasSuffix(first, []byte("\r")) {
			t.Errorf("%s: lines do not end with CR LF, as RFC 4180 has it", filepath.Base(path))
		}
	}
	rows, err := csv.NewReader(bytes.NewReader(read(t, filepath.Join(dir, "csv", "load.csv")))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	// A bucket of 10 scenario seconds lasts one real second at a time-lapse of 10.
	if want := exact(float64(r.Variants[0].Recording.Load[0].Offered)); rows[1][3] != want {
		t.Errorf("offered is %s per s, want %s", rows[1][3], want)
	}
	if len(rows) != 1+3*12 {
		t.Errorf("load.csv has %d rows", len(rows))
	}
}

func TestReadBack(t *testing.T) {
	dir := t.TempDir()
	r := small()
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	back, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if err := Write(again, back); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.html", "data.json", "report.json"} {
		if !bytes.Equal(read(t, filepath.Join(dir, name)), read(t, filepath.Join(again, name))) {
			t.Errorf("%s is not the same when written from what was read", name)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	empty, other, one := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, name := range map[string]string{one: "thrash", other: "cost"} {
		r := small()
		r.Scenario = name
		if err := Write(dir, r); err != nil {
			t.Fatal(err)
		}
	}
	strange := t.TempDir()
	if err := os.WriteFile(filepath.Join(strange, "report.json"), []byte(`{"scenario":"x","speed":1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	compare := func(dirs ...string) error { _, err := Compare(dirs...); return err }
	unnamed, silent, twice := small(), small(), small()
	unnamed.Scenario = ""
	silent.Valid = false
	twice.Variants[1].Name = twice.Variants[0].Name
	for _, c := range []struct {
		err  error
		want string
	}{
		{compare(one), "two runs or more"},
		{compare(one, empty), "has no report.json: give the directory that a run has written"},
		{compare(one, other), "is a run of thrash, " + other + " one of cost"},
		{compare(strange, one), `unknown field "speed"; run the scenario again`},
		{Catalogue(empty), "has no runs below it"},
		{Write(empty, &Result{}), "no variants: run at least one"},
		{Write(empty, unnamed), "no scenario name"},
		{Write(empty, silent), "not valid and does not say why"},
		{Write(empty, twice), `two variants are called "nothing scales"`},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("got %v, want …%s…", c.err, c.want)
		}
	}
}

// A run that was cut off is told of, and does not hide the others.
func TestCatalogueListsWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "whole"), small()); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "broken"), small()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken", "data.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Catalogue(dir); err != nil {
		t.Fatal(err)
	}
	text := string(read(t, filepath.Join(dir, "index.html")))
	for _, want := range []string{"2 ran: 1 of them valid, and in 0 of those everything expected held.", "✗ not readable",
		`href="./whole/index.html"`, "2 of 3", "When the callers scale out"} {
		if !strings.Contains(text, want) {
			t.Errorf("the catalogue does not have %s", want)
		}
	}
	if strings.Contains(text, "logs") {
		t.Error("a directory that is no run is listed")
	}
}

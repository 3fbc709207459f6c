package metrics

import (
	"bytes"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb"
	"go.yaml.in/yaml/v3"

	"spillway.dev/lab/metrics/timelapse"
)

const (
	rulesDir   = "../../k8s/observability/prometheus/rules"
	alertTests = "../../k8s/observability/prometheus/tests"
)

// ruleTests is a file for `promtool test rules`, as far as our files go. promtool
// itself cannot be imported.
type ruleTests struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []ruleTest     `yaml:"tests"`
}

type ruleTest struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Expressions []struct {
		Expr     string         `yaml:"expr"`
		EvalTime model.Duration `yaml:"eval_time"`
		Expected []struct {
			Labels string  `yaml:"labels"`
			Value  float64 `yaml:"value"`
		} `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

func TestRuleFiles(t *testing.T) {
	for _, file := range []string{"testdata/mesh.test.yaml", "testdata/coordination.test.yaml", alertTests + "/alerts.yaml", alertTests + "/slo.yaml"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tests ruleTests
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		decoder.KnownFields(true)
		if err := decoder.Decode(&tests); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range tests.Tests {
			t.Run(filepath.Base(file)+"/"+test.Name, func(t *testing.T) { tests.run(t, filepath.Dir(file), test) })
		}
	}
}

// bench is a store of its own for one rule test, with time from the epoch on.
type bench struct {
	series
	db     *tsdb.DB
	groups []*rules.Group
}

func newBench(t *testing.T, interval time.Duration, lapse timelapse.Lapse, files []string) *bench {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), ScrapeInterval: interval}.withDefaults()
	// Series are loaded one after another, so an old sample may follow one that
	// is days newer: within half a block it may.
	options := tsdbOptions()
	options.MinBlockDuration = (30 * 24 * time.Hour).Milliseconds()
	options.MaxBlockDuration = options.MinBlockDuration
	db, err := tsdb.Open(cfg.Dir, cfg.Log, nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	p := newParser()
	engine := newEngine(cfg, p)
	load := loader{parser: p, lapse: lapse, log: slog.New(slog.DiscardHandler)}
	manager := newRules(t.Context(), load, engine, db, prometheus.NewRegistry())
	loaded, errs := manager.LoadGroups(interval, labels.EmptyLabels(), "", nil, false, files...)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	b := &bench{series: series{engine: engine, data: db}, db: db}
	for _, file := range files { // groups of one file before those that read what it records
		for _, key := range slices.Sorted(maps.Keys(loaded)) {
			if loaded[key].File() == file {
				for _, rule := range loaded[key].AlertingRules() {
					rule.SetRestored(true) // else ALERTS is not written
				}
				b.groups = append(b.groups, loaded[key])
			}
		}
	}
	return b
}

// load appends a series in promtool's notation.
func (b *bench) load(t *testing.T, interval time.Duration, metric, values string) {
	t.Helper()
	set, points, err := newParser().ParseSeriesDesc(metric + " " + values)
	if err != nil {
		t.Fatalf("%s %s: %v", metric, values, err)
	}
	app := b.db.Appender(t.Context())
	for i, point := range points {
		if point.Omitted {
			continue
		}
		if _, err := app.Append(0, set, (time.Duration(i) * interval).Milliseconds(), point.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// run runs one test of a file in dir, which the names of rule files start from.
func (s ruleTests) run(t *testing.T, dir string, test ruleTest) {
	files := make([]string, 0, len(s.RuleFiles))
	for _, file := range s.RuleFiles {
		files = append(files, filepath.Join(dir, file))
	}
	interval := time.Duration(s.EvaluationInterval)
	b := newBench(t, interval, timelapse.Lapse{By: 1}, files)
	for _, in := range test.InputSeries {
		b.load(t, time.Duration(test.Interval), in.Series, in.Values)
	}
	end := time.Duration(0)
	for _, e := range test.Expressions {
		end = max(end, time.Duration(e.EvalTime))
	}
	for now := time.Duration(0); now <= end; now += interval {
		at := timestamp.Time(now.Milliseconds())
		for _, group := range b.groups {
			group.Eval(t.Context(), at)
			for _, rule := range group.Rules() {
				if err := rule.LastError(); err != nil {
					t.Fatalf("%v: rule %s: %v", now, rule.Name(), err)
				}
			}
		}
		if broken := b.broken(); len(broken) > 0 {
			t.Fatalf("%v: %q", now, broken)
		}
		for _, e := range test.Expressions {
			if time.Duration(e.EvalTime) != now {
				continue
			}
			got := b.values(t, e.Expr, at)
			want := map[string]float64{}
			for _, one := range e.Expected {
				set, err := newParser().ParseMetric(one.Labels)
				if err != nil {
					t.Fatal(err)
				}
				want[set.String()] = one.Value
			}
			if !alike(got, want) {
				t.Errorf("%v: %s\n got %v\nwant %v", now, e.Expr, got, want)
			}
		}
	}
}

func (b *bench) values(t *testing.T, expr string, at time.Time) map[string]float64 {
	t.Helper()
	vector, err := b.Query(t.Context(), expr, at)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, sample := range vector {
		got[sample.Metric.String()] = sample.F
	}
	return got
}

func alike(got, want map[string]float64) bool {
	return maps.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(b)) })
}

// broken lists the annotations of alerts whose templates do not expand.
func (b *bench) broken() (found []string) {
	for _, group := range b.groups {
		for _, rule := range group.AlertingRules() {
			for _, alert := range rule.ActiveAlerts() {
				alert.Annotations.Range(func(l labels.Label) {
					if strings.Contains(l.Value, "error expanding template") || strings.Contains(l.Value, "<no value>") {
						found = append(found, rule.Name()+": "+l.Name+": "+l.Value)
					}
				})
			}
		}
	}
	return found
}

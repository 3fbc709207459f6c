package metrics

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// becomes waits until an expression has the value.
func becomes(t *testing.T, s *Store, expr string, want float64) {
	t.Helper()
	eventually(t, func() string {
		if got, ok := value(t, s, expr); !ok || got != want {
			return fmt.Sprintf("%s is %v (%v), want %v", expr, got, ok, want)
		}
		return ""
	})
}

func vanishes(t *testing.T, s *Store, expr string) {
	t.Helper()
	eventually(t, func() string {
		if got, ok := value(t, s, expr); ok {
			return fmt.Sprintf("%s is %v, want nothing", expr, got)
		}
		return ""
	})
}

func TestTargetsComeAndGo(t *testing.T) {
	s := open(t, Config{})
	one, two := newReplica(t), newReplica(t)
	one.calls.Add(3)
	two.calls.Add(4)
	s.SetTargets([]Target{one.target("one"), two.target("two")})
	becomes(t, s, `sum(calls_total{namespace="spillway", service="order", node=""})`, 7)
	becomes(t, s, `count(up == 1)`, 2)

	// Stale at once, not when the lookback is over: minutes later.
	s.SetTargets([]Target{one.target("one")})
	vanishes(t, s, `calls_total{pod="two"}`)
	vanishes(t, s, `up{pod="two"}`)
	becomes(t, s, `calls_total{pod="one"}`, 3)
	// What it ended with is kept.
	kept, err := s.Samples(t.Context(), `calls_total{pod="two"}`, time.Hour, time.Now())
	if err != nil || len(kept) != 1 || len(kept[0].Floats) == 0 || kept[0].Floats[len(kept[0].Floats)-1].F != 4 {
		t.Errorf("the samples of one that is gone: %v, %v", kept, err)
	}

	// One that is gone without a word.
	one.server.Close()
	becomes(t, s, `up{pod="one"}`, 0)
	vanishes(t, s, `calls_total{pod="one"}`)
}

func TestACounterCountsFromItsBeginning(t *testing.T) {
	s := open(t, Config{})
	r := newReplica(t)
	r.calls.Add(40) // before the first scrape, as a new replica under load
	s.SetTargets([]Target{r.target("new")})
	becomes(t, s, `calls_total`, 40)
	becomes(t, s, `min_over_time(calls_total[5m])`, 0)
}

func TestTheLabsOwnSeries(t *testing.T) {
	reg := prometheus.NewRegistry()
	phase := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kube_pod_status_phase", Help: "Phase."}, []string{"namespace", "pod", "phase"})
	reg.MustRegister(phase)
	phase.WithLabelValues("spillway", "order-1", "Running").Set(1)
	s := open(t, Config{})
	s.Gatherer("kube-state-metrics", reg)
	becomes(t, s, `kube_pod_status_phase{job="kube-state-metrics", namespace="spillway", pod="order-1", phase="Running", exported_pod=""}`, 1)

	phase.Reset() // the pod is gone
	vanishes(t, s, `kube_pod_status_phase`)

	// Targets of the mesh leave the lab's alone.
	phase.WithLabelValues("spillway", "order-2", "Running").Set(1)
	s.SetTargets(nil)
	becomes(t, s, `kube_pod_status_phase{pod="order-2"}`, 1)
}

const timelapseRules = `
groups:
  - name: a
    interval: 1m
    rules:
      - record: calls:rate
        expr: rate(calls_total[1m])
      - alert: Called
        expr: calls_total > 0
        for: 2m
        labels: {severity: ticket}
        annotations: {summary: "{{ $labels.pod }} was called"}
`

func TestRulesGoFasterInTimelapse(t *testing.T) {
	s := open(t, Config{ScrapeInterval: 10 * time.Second, Timelapse: 120, RuleFiles: []string{write(t, "rules.yaml", timelapseRules)}})
	if got, want := s.Interval(), 500*time.Millisecond; got != want {
		t.Fatalf("scrapes come every %v, want %v", got, want)
	}
	r := newReplica(t)
	r.calls.Inc()
	s.SetTargets([]Target{r.target("one")})
	// The alert waits for 2 m / 120 = 1 s; the rate for two scrapes in a window
	// of three, since 1 m / 120 would see one.
	becomes(t, s, `count(ALERTS{alertname="Called", alertstate="firing"})`, 1)
	eventually(t, func() string {
		if got, ok := value(t, s, `calls:rate{pod="one"}`); !ok || math.IsNaN(got) {
			return "no rate"
		}
		return ""
	})
}

func TestQueriesFromOutsideKeepTheirTimes(t *testing.T) {
	s := open(t, Config{ScrapeInterval: quick, Timelapse: 10})
	r := newReplica(t)
	r.calls.Add(5)
	s.SetTargets([]Target{r.target("one")})
	becomes(t, s, `calls_total`, 5)
	// A minute back there was nothing; six seconds back there might be soon.
	if got, ok := value(t, s, `calls_total offset 1m`); ok {
		t.Errorf("a minute ago there were %v calls", got)
	}
	to := time.Now()
	matrix, err := s.QueryRange(t.Context(), `calls_total`, to.Add(-time.Second), to, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(matrix) != 1 || len(matrix[0].Floats) == 0 || len(matrix[0].Floats) > 11 {
		t.Errorf("got %v, want one series of up to 11 points", matrix)
	}
}

func TestQueriesThatCannotBeAnswered(t *testing.T) {
	s := open(t, Config{})
	for expr, want := range map[string]string{
		`rate(x`:    `query "rate(x": 1:7: parse error: unclosed left parenthesis`,
		`x[5m]`:     `query "x[5m]" gives a matrix; ask for samples at one time`,
		`"text"`:    `query "\"text\"" gives a string; ask for samples at one time`,
		`{a=~"b("}`: `query "{a=~\"b(\"}": 1:2: parse error: `,
		`sum(1, 2)`: `query "sum(1, 2)": 1:1: parse error: wrong number of arguments`,
	} {
		_, err := s.Query(t.Context(), expr, time.Now())
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s...", expr, err, want)
		}
	}
	if _, err := s.QueryRange(t.Context(), `x`, time.Now(), time.Now(), 0); err == nil || !strings.Contains(err.Error(), "give 1 ms or more") {
		t.Errorf("a step of 0: %v", err)
	}
	got, err := s.Query(t.Context(), `1 + 1`, time.Now())
	if err != nil || len(got) != 1 || got[0].F != 2 {
		t.Errorf("1 + 1 is %v, %v", got, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Config{Dir: t.TempDir()}
	with := func(f func(*Config)) Config {
		cfg := good
		f(&cfg)
		return cfg
	}
	for _, c := range []struct {
		name, want string
		cfg        Config
	}{
		{"no directory", "metrics: Dir is empty; name the directory that keeps the series", Config{}},
		{"a negative interval", "metrics: ScrapeInterval is -1s; give a time above 0, or 0 for 10s", with(func(c *Config) { c.ScrapeInterval = -time.Second })},
		{"a slow time-lapse", "metrics: Timelapse is 0.5; give a factor from 1 on", with(func(c *Config) { c.Timelapse = 0.5 })},
		{"no number", "metrics: Timelapse is NaN; give a factor from 1 on", with(func(c *Config) { c.Timelapse = math.NaN() })},
		{"an address that is taken", "address already in use", with(func(c *Config) { c.Listen = taken(t) })},
		{"a directory that is a file", "not a directory", with(func(c *Config) { c.Dir = write(t, "file", "") })},
		{"rules that are not there", "none.yaml: no such file", with(func(c *Config) { c.RuleFiles = []string{"none.yaml"} })},
		{"a key that rules do not have", "field exprs not found in type rulefmt.Rule", with(func(c *Config) {
			c.RuleFiles = []string{write(t, "r.yaml", "groups: [{name: a, rules: [{record: b, exprs: c}]}]")}
		})},
		{"an expression that does not parse", "could not parse expression: 1:4: parse error", with(func(c *Config) {
			c.RuleFiles = []string{write(t, "r.yaml", "groups: [{name: a, rules: [{record: b, expr: 1 +}]}]")}
		})},
	} {
		s, err := Open(t.Context(), c.cfg)
		if err == nil {
			t.Errorf("%s: opened", c.name)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.want)
		}
	}
	// Nothing of it holds the directory: it can be opened now.
	open(t, good)
}

func TestCloseTwice(t *testing.T) {
	s := open(t, Config{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.SetTargets([]Target{{Address: "127.0.0.1:1"}}) // does nothing, and does not block
}

// The checked-in files load at every speed.
func TestTheRuleFilesOpen(t *testing.T) {
	files, err := filepath.Glob(rulesDir + "/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d rule files in %s, %v", len(files), rulesDir, err)
	}
	var rules []string
	for _, file := range files {
		if filepath.Base(file) != "kustomization.yaml" {
			rules = append(rules, file)
		}
	}
	for _, lapse := range []float64{1, 10, 60} {
		s := open(t, Config{RuleFiles: rules, Timelapse: lapse})
		if n := len(s.rules.RuleGroups()); n != len(rules) {
			t.Errorf("at %v × there are %d groups of rules, want one for each of %d files", lapse, n, len(rules))
		}
	}
}

func TestOpenedAndClosedAtOnce(t *testing.T) {
	r := newReplica(t)
	for range 20 { // leaks show when all tests are over
		s := open(t, Config{})
		s.SetTargets([]Target{r.target("one")})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

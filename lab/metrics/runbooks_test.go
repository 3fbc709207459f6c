package metrics

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"
)

const runbooksDir = "../../docs/runbooks"

// alerts is every alert of the checked-in files by name.
func alerts(t *testing.T) map[string]labels.Labels {
	t.Helper()
	b := newBench(t, time.Second, Config{}.withDefaults().loader(newParser()).lapse,
		[]string{rulesDir + "/alerts.yaml", rulesDir + "/slo.yaml"})
	all := map[string]labels.Labels{}
	for _, group := range b.groups {
		for _, rule := range group.AlertingRules() {
			if _, twice := all[rule.Name()]; twice {
				t.Errorf("there are two alerts %s; their tests and pages would be one", rule.Name())
			}
			all[rule.Name()] = rule.Annotations()
			if severity := rule.Labels().Get("severity"); severity != "page" && severity != "ticket" {
				t.Errorf("alert %s has severity %q; page or ticket", rule.Name(), severity)
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

func TestEveryAlertHasARunbook(t *testing.T) {
	all := alerts(t)
	for name, annotations := range all {
		for _, text := range []string{"summary", "description"} {
			if annotations.Get(text) == "" {
				t.Errorf("alert %s has no %s", name, text)
			}
		}
		if got, want := annotations.Get("runbook_url"), "docs/runbooks/"+name+".md"; got != want {
			t.Errorf("alert %s has runbook_url %q, want %q", name, got, want)
		}
		page, err := os.ReadFile(filepath.Join(runbooksDir, name+".md"))
		if err != nil {
			t.Errorf("alert %s: %v", name, err)
			continue
		}
		at := 0
		for _, part := range []string{"# " + name + "\n", "\n**Impact.** ", "\n## First look\n", "\nLocal run:\n```sh\n", "\nCluster:\n```sh\n", "\n## Remedy\n1. "} {
			found := strings.Index(string(page[at:]), part)
			if found < 0 {
				t.Errorf("the page of %s has no %q, or not in its place", name, part)
				break
			}
			at += found
		}
	}
	pages, err := filepath.Glob(runbooksDir + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := strings.TrimSuffix(filepath.Base(page), ".md"); name != "README" && all[name].IsEmpty() {
			t.Errorf("%s is of no alert", page)
		}
	}
}

// Every alert is seen firing in a test of its rules; that it also stays silent
// is in the expectations that are empty.
func TestEveryAlertHasATest(t *testing.T) {
	files, err := filepath.Glob(alertTests + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fired := map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tests ruleTests
		if err := yaml.Unmarshal(content, &tests); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range tests.Tests {
			for _, e := range test.Expressions {
				for _, sample := range e.Expected {
					set, err := newParser().ParseMetric(sample.Labels)
					if err != nil {
						t.Fatalf("%s: %s: %v", file, test.Name, err)
					}
					if set.Get("alertstate") == "firing" {
						fired[set.Get("alertname")] = true
					}
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(alerts(t))) {
		if !fired[name] {
			t.Errorf("no test in %s has %s firing", alertTests, name)
		}
	}
}

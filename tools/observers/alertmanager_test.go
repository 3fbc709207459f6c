package observers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"
)

func TestAlertsReachSomebody(t *testing.T) {
	cfg, err := config.LoadFile(observability + "/alertmanager/alertmanager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// to is who is told of an alert; none of the routes has routes of its own.
	to := func(alert model.LabelSet) string {
		for _, route := range cfg.Route.Routes {
			if labels.Matchers(route.Matchers).Matches(alert) {
				return route.Receiver
			}
		}
		return cfg.Route.Receiver
	}
	if got := to(model.LabelSet{"severity": "page"}); got != "people" {
		t.Errorf("a page goes to %s", got)
	}
	if got := to(model.LabelSet{"severity": "ticket"}); got != "tickets" {
		t.Errorf("a ticket goes to %s", got)
	}
	if got := to(model.LabelSet{}); got != "tickets" {
		t.Errorf("an alert without severity goes to %s", got)
	}

	// What an alert silences must be there, or the silence is one by mistake.
	names := alertNames(t)
	for _, rule := range cfg.InhibitRules {
		found := map[string]bool{}
		for name := range names {
			set := model.LabelSet{"alertname": model.LabelValue(name)}
			if labels.Matchers(rule.SourceMatchers).Matches(set) {
				found["source"] = true
			}
			if labels.Matchers(rule.TargetMatchers).Matches(set) {
				found["target"] = true
			}
		}
		if !found["source"] || !found["target"] {
			t.Errorf("%v silences %v: one of them is no alert", rule.SourceMatchers, rule.TargetMatchers)
		}
	}
}

func alertNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(observability + "/prometheus/rules/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var rules struct {
			Groups []struct {
				Rules []struct {
					Alert string `json:"alert"`
				} `json:"rules"`
			} `json:"groups"`
		}
		if err := yaml.Unmarshal(text, &rules); err != nil {
			t.Fatal(err)
		}
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if r.Alert != "" {
					names[r.Alert] = true
				}
			}
		}
	}
	return names
}

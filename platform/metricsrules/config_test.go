package metricsrules_test

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"spillway.dev/platform/metricsrules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const resources = `
resourceRules:
  cpu: &rule
    containerQuery: cpu{<<.LabelMatchers>>}
    resources: {template: "<<.Resource>>"}
    containerLabel: container
  memory: *rule
  window: 30s
`

// TestRefused lists mistakes with what is said about each.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"rules:\n  - seriesQuery: up\n    metricQuery: x\n", "line 3: field metricQuery not found"},
		{"rule: []\n", "line 1: field rule not found"},
		{"rules: {}\n", "line 1: cannot unmarshal"},
		{"rules: []\n---\nrules: []\n", "more than one YAML document"},
		{"rules:\n  - metricsQuery: x\n", "rules[0]: seriesQuery: is missing"},
		{"rules:\n  - seriesQuery: up\n", "rules[0]: metricsQuery: is missing"},
		{"externalRules:\n  - {seriesQuery: up, metricsQuery: '<<.Series'}\n", "externalRules[0]: metricsQuery: template"},
		{"rules:\n  - {seriesQuery: up, metricsQuery: x, seriesFilters: [{is: a, isNot: b}]}\n", "seriesFilters[0]: give one of is and isNot"},
		{"rules:\n  - {seriesQuery: up, metricsQuery: x, seriesFilters: [{}]}\n", "seriesFilters[0]: give one of is and isNot"},
		{"rules:\n  - {seriesQuery: up, metricsQuery: x, seriesFilters: [{is: '('}]}\n", "seriesFilters[0]: error parsing regexp"},
		{"rules:\n  - {seriesQuery: up, metricsQuery: x, name: {matches: '('}}\n", "name.matches: error parsing regexp"},
		{"rules:\n  - {seriesQuery: up, metricsQuery: x, name: {matches: '(a)(b)'}}\n", "name.as is missing"},
		{"rules:\n  - {seriesQuery: up, metricsQuery: x, resources: {overrides: {p: {resource: pood}}}}\n", "resources: overrides.p: "},
		{"rules:\n  - {seriesQuery: up, metricsQuery: x, resources: {template: '<<'}}\n", "resources: template: "},
		{strings.Replace(resources, "  window: 30s\n", "", 1), "resourceRules.window is missing"},
		{strings.Replace(resources, "30s", "soon", 1), "not a valid duration string"},
		{strings.Replace(resources, "    containerLabel: container\n", "", 1), "resourceRules: cpu: containerLabel is missing"},
		{strings.Replace(resources, "  memory: *rule\n", "", 1), "resourceRules: memory: containerLabel is missing"},
		{strings.Replace(resources, `{template: "<<.Resource>>"}`, "{overrides: {p: {resource: pod}}}", 1), "no label for namespaces"},
		{strings.Replace(resources, "containerQuery: cpu{<<.LabelMatchers>>}", "nodeQuery: x", 1), "containerQuery: is missing"},
	} {
		parsed, err := metricsrules.Parse([]byte(c.text))
		if err == nil {
			_, err = metricsrules.New(parsed, metricsrules.Mapper(), new(store).query, metricsrules.Plain{})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\nerror %v\nwant one with %q", c.text, err, c.want)
		}
	}
}

func TestAccepted(t *testing.T) {
	for _, text := range []string{"", resources, rules} {
		parsed, err := metricsrules.Parse([]byte(text))
		if err != nil {
			t.Errorf("%s\n%v", text, err)
			continue
		}
		if _, err := metricsrules.New(parsed, metricsrules.Mapper(), new(store).query, metricsrules.Plain{}); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

// The checked-in configuration is one that is understood.
func TestCheckedIn(t *testing.T) {
	text, err := os.ReadFile("../../k8s/observability/prometheus-adapter/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := metricsrules.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := metricsrules.New(parsed, metricsrules.Mapper(), new(store).query, metricsrules.Plain{}); err != nil {
		t.Fatal(err)
	}
}

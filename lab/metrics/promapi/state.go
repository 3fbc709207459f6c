package promapi

import (
	"errors"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
)

type ruleGroup struct {
	Name           string    `json:"name"`
	File           string    `json:"file"`
	Rules          []any     `json:"rules"`
	Interval       float64   `json:"interval"`
	Limit          int       `json:"limit"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
}

// ruleState is what both kinds of rules say of themselves.
type ruleState struct {
	Name           string           `json:"name"`
	Query          string           `json:"query"`
	Labels         labels.Labels    `json:"labels"`
	Health         rules.RuleHealth `json:"health"`
	LastError      string           `json:"lastError,omitempty"`
	EvaluationTime float64          `json:"evaluationTime"`
	LastEvaluation time.Time        `json:"lastEvaluation"`
	Type           string           `json:"type"`
}

type alertingRule struct {
	ruleState
	State         string        `json:"state"`
	Duration      float64       `json:"duration"`
	KeepFiringFor float64       `json:"keepFiringFor"`
	Annotations   labels.Labels `json:"annotations"`
	Alerts        []alert       `json:"alerts"`
}

type alert struct {
	Labels          labels.Labels `json:"labels"`
	Annotations     labels.Labels `json:"annotations"`
	State           string        `json:"state"`
	ActiveAt        *time.Time    `json:"activeAt,omitempty"`
	KeepFiringSince *time.Time    `json:"keepFiringSince,omitempty"`
	Value           string        `json:"value"`
}

func (s Source) rules(r *http.Request) answer {
	kind := strings.ToLower(r.FormValue("type"))
	if kind != "" && kind != "alert" && kind != "record" {
		return badParameter("type", errors.New("not supported value "+strconv.Quote(kind)))
	}
	sets, err := s.matchers(r)
	if err != nil {
		return badParameter("match[]", err)
	}
	wanted := func(parameter, value string) bool {
		values := r.Form[parameter]
		return len(values) == 0 || slices.Contains(values, value)
	}
	found := []ruleGroup{}
	if s.Rules != nil {
		for _, group := range s.Rules.RuleGroups() {
			if !wanted("rule_group[]", group.Name()) || !wanted("file[]", group.File()) {
				continue
			}
			one := ruleGroup{
				Name: group.Name(), File: group.File(), Rules: []any{}, Limit: group.Limit(),
				Interval:       group.Interval().Seconds(),
				EvaluationTime: group.GetEvaluationTime().Seconds(),
				LastEvaluation: group.GetLastEvaluation(),
			}
			for _, rule := range group.Rules(sets...) {
				if described := describe(rule, kind); described != nil && wanted("rule_name[]", rule.Name()) {
					one.Rules = append(one.Rules, described)
				}
			}
			if len(one.Rules) > 0 {
				found = append(found, one)
			}
		}
	}
	return answer{data: map[string]any{"groups": found}}
}

// describe is a rule as the API shows it; nil when it is not of the kind.
func describe(rule rules.Rule, kind string) any {
	state := ruleState{
		Name: rule.Name(), Query: rule.Query().String(), Labels: rule.Labels(), Health: rule.Health(),
		EvaluationTime: rule.GetEvaluationDuration().Seconds(), LastEvaluation: rule.GetEvaluationTimestamp(),
	}
	if err := rule.LastError(); err != nil {
		state.LastError = err.Error()
	}
	switch rule := rule.(type) {
	case *rules.AlertingRule:
		if kind == "record" {
			return nil
		}
		state.Type = "alerting"
		return alertingRule{
			ruleState: state, State: rule.State().String(), Annotations: rule.Annotations(),
			Duration: rule.HoldDuration().Seconds(), KeepFiringFor: rule.KeepFiringFor().Seconds(),
			Alerts: active(rule),
		}
	case *rules.RecordingRule:
		if kind == "alert" {
			return nil
		}
		state.Type = "recording"
		return state
	}
	return nil
}

func (s Source) alerts(*http.Request) answer {
	found := []alert{}
	if s.Rules != nil {
		for _, rule := range s.Rules.AlertingRules() {
			found = append(found, active(rule)...)
		}
	}
	return answer{data: map[string]any{"alerts": found}}
}

func active(rule *rules.AlertingRule) []alert {
	found := []alert{}
	for _, a := range rule.ActiveAlerts() {
		one := alert{
			Labels: a.Labels, Annotations: a.Annotations, State: a.State.String(), ActiveAt: &a.ActiveAt,
			Value: strconv.FormatFloat(a.Value, 'e', -1, 64),
		}
		if !a.KeepFiringSince.IsZero() {
			one.KeepFiringSince = &a.KeepFiringSince
		}
		found = append(found, one)
	}
	return found
}

type target struct {
	DiscoveredLabels   labels.Labels       `json:"discoveredLabels"`
	Labels             labels.Labels       `json:"labels"`
	ScrapePool         string              `json:"scrapePool"`
	ScrapeURL          string              `json:"scrapeUrl"`
	GlobalURL          string              `json:"globalUrl"`
	LastError          string              `json:"lastError"`
	LastScrape         time.Time           `json:"lastScrape"`
	LastScrapeDuration float64             `json:"lastScrapeDuration"`
	Health             scrape.TargetHealth `json:"health"`
	ScrapeInterval     string              `json:"scrapeInterval"`
	ScrapeTimeout      string              `json:"scrapeTimeout"`
}

func (s Source) targets(r *http.Request) answer {
	found := []target{}
	state := strings.ToLower(r.FormValue("state"))
	if s.Targets != nil && state != "dropped" {
		pools := s.Targets.TargetsActive()
		builder := labels.NewBuilder(labels.EmptyLabels())
		for _, pool := range slices.Sorted(maps.Keys(pools)) {
			if only := r.FormValue("scrapePool"); only != "" && only != pool {
				continue
			}
			for _, t := range pools[pool] {
				one := target{
					DiscoveredLabels: t.DiscoveredLabels(builder), Labels: t.Labels(builder), ScrapePool: pool,
					ScrapeURL: t.URL().String(), GlobalURL: t.URL().String(),
					LastScrape: t.LastScrape(), LastScrapeDuration: t.LastScrapeDuration().Seconds(), Health: t.Health(),
					ScrapeInterval: t.GetValue(model.ScrapeIntervalLabel), ScrapeTimeout: t.GetValue(model.ScrapeTimeoutLabel),
				}
				if err := t.LastError(); err != nil {
					one.LastError = err.Error()
				}
				found = append(found, one)
			}
		}
	}
	// No target is dropped by relabelling here.
	return answer{data: map[string]any{"activeTargets": found, "droppedTargets": []target{}, "droppedTargetCounts": map[string]int{}}}
}

// buildInfo tells the version of Prometheus that is linked, by which Grafana
// decides what it may ask.
func buildInfo(*http.Request) answer {
	const module = "github.com/prometheus/prometheus"
	info := map[string]string{"version": "", "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": runtime.Version()}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range build.Deps {
			if dep.Path == module {
				info["version"] = releaseOf(dep.Version)
			}
		}
	}
	return answer{data: info}
}

// releaseOf turns the version of the module into that of the release:
// Prometheus 3.15.0 is the module's v0.315.0.
func releaseOf(module string) string {
	parts := strings.SplitN(strings.TrimPrefix(module, "v"), ".", 3)
	if len(parts) != 3 || parts[0] != "0" || len(parts[1]) < 3 {
		return module
	}
	major, minor := parts[1][:len(parts[1])-2], strings.TrimLeft(parts[1][len(parts[1])-2:], "0")
	if minor == "" {
		minor = "0"
	}
	return major + "." + minor + "." + parts[2]
}

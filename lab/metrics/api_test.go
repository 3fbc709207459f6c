package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	apiv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

// client is Prometheus' own, at the store's address.
func client(t *testing.T, s *Store) apiv1.API {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := api.NewClient(api.Config{Address: s.URL(), RoundTripper: transport})
	if err != nil {
		t.Fatal(err)
	}
	return apiv1.NewAPI(c)
}

const apiRules = `
groups:
  - name: calls
    interval: 100ms
    rules:
      - {record: "calls:sum", expr: sum(calls_total)}
      - alert: Called
        expr: calls_total > 0
        labels: {severity: ticket}
        annotations: {summary: "{{ $labels.pod }} was called"}
`

// scraped is a store that has scraped two replicas and evaluated rules.
func scraped(t *testing.T) (*Store, apiv1.API) {
	t.Helper()
	s := open(t, Config{RuleFiles: []string{write(t, "rules.yaml", apiRules)}})
	one, two := newReplica(t), newReplica(t)
	one.calls.Add(3)
	two.calls.Add(4)
	one.took.(prometheus.ExemplarObserver).ObserveWithExemplar(0.5, prometheus.Labels{"trace_id": "abc"})
	s.SetTargets([]Target{one.target("one"), two.target("two")})
	becomes(t, s, "calls:sum", 7)
	becomes(t, s, `count(ALERTS{alertstate="firing"})`, 2)
	return s, client(t, s)
}

func TestAPIQueries(t *testing.T) {
	_, c := scraped(t)
	ctx := t.Context()
	at := time.Now()
	for expr, want := range map[string]string{
		`sum by (service) (calls_total)`: `{service="order"} => 7 @`,
		`scalar(sum(calls_total)) + 0.5`: `scalar: 7.5 @`,
		`1 / sum(calls_total * 0)`:       `{} => +Inf @`,
		`nothing_of_the_kind`:            ``,
	} {
		got, warnings, _, err := c.Query(ctx, expr, at)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", expr, warnings, err)
			continue
		}
		if !strings.HasPrefix(got.String(), want) || (want == "" && got.String() != "") {
			t.Errorf("%s:\n got %s\nwant %s", expr, got, want)
		}
	}
	long := `sum(calls_total{pod=~"one|two` + strings.Repeat("|none", 2000) + `"})` // goes by POST
	if got, _, _, err := c.Query(ctx, long, at); err != nil || !strings.HasPrefix(got.String(), "{} => 7") {
		t.Errorf("a long query: %v, %v", got, err)
	}
	got, _, _, err := c.QueryRange(ctx, `sum(calls_total)`, apiv1.Range{Start: at.Add(-time.Second), End: at, Step: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	matrix, ok := got.(model.Matrix)
	if !ok || len(matrix) != 1 || len(matrix[0].Values) == 0 {
		t.Fatalf("got %v, want a series", got)
	}
	if v := matrix[0].Values[len(matrix[0].Values)-1]; v.Value != 7 || v.Timestamp.Time().Before(at.Add(-101*time.Millisecond)) {
		t.Errorf("the last point is %v, want 7 at %v", v, at)
	}
	limited, warnings, _, err := c.Query(ctx, `calls_total`, at, apiv1.WithLimit(1))
	if err != nil || len(limited.(model.Vector)) != 1 || !slices.Equal(warnings, apiv1.Warnings{"results truncated due to limit"}) {
		t.Errorf("one of two: %v, %v, %v", limited, warnings, err)
	}
}

func TestAPIErrors(t *testing.T) {
	s, c := scraped(t)
	ctx := t.Context()
	now := time.Now()
	for _, tc := range []struct {
		name string
		kind apiv1.ErrorType
		text string
		ask  func() error
	}{
		{"a query that does not parse", apiv1.ErrBadData, `invalid parameter "query": 1:8: parse error`, func() error {
			_, _, _, err := c.Query(ctx, "rate(x[", now)
			return err
		}},
		{"a query that cannot be carried out", apiv1.ErrExec, "many-to-many", func() error {
			_, _, _, err := c.Query(ctx, `calls_total * on (service) calls_total`, now)
			return err
		}},
		{"a query that runs out of time", apiv1.ErrServer, "server error: 503", func() error {
			_, _, _, err := c.Query(ctx, `sum_over_time((calls_total + 0)[1h:1ms])`, now, apiv1.WithTimeout(time.Millisecond))
			return err
		}},
		{"an end before the start", apiv1.ErrBadData, "end timestamp must not be before start", func() error {
			_, _, _, err := c.QueryRange(ctx, `x`, apiv1.Range{Start: now, End: now.Add(-time.Hour), Step: time.Second})
			return err
		}},
		{"a step of 0", apiv1.ErrBadData, "zero or negative query resolution", func() error {
			_, _, _, err := c.QueryRange(ctx, `x`, apiv1.Range{Start: now, End: now, Step: 0})
			return err
		}},
		{"too many points", apiv1.ErrBadData, "exceeded maximum resolution", func() error {
			_, _, _, err := c.QueryRange(ctx, `x`, apiv1.Range{Start: now.Add(-24 * time.Hour), End: now, Step: time.Second})
			return err
		}},
		{"series of nothing", apiv1.ErrBadData, "no match[] parameter", func() error {
			_, _, _, err := c.Series(ctx, nil, now, now)
			return err
		}},
		{"series of everything", apiv1.ErrBadData, "at least one non-empty matcher", func() error {
			_, _, _, err := c.Series(ctx, []string{`{a=~".*"}`}, now, now)
			return err
		}},
		{"a path that is not served", apiv1.ErrClient, "client error: 404", func() error {
			_, err := c.TSDB(ctx)
			return err
		}},
	} {
		err := tc.ask()
		e, ok := errors.AsType[*apiv1.Error](err)
		if !ok || e.Type != tc.kind || !strings.Contains(e.Msg, tc.text) {
			t.Errorf("%s: got %v, want %s: %s", tc.name, err, tc.kind, tc.text)
		}
	}
	response, err := http.Get(s.URL() + "/api/v1/status/tsdb")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if response.StatusCode != http.StatusNotFound || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s, %s; want 404 in JSON", response.Status, response.Header.Get("Content-Type"))
	}
}

func TestAPISeriesAndLabels(t *testing.T) {
	_, c := scraped(t)
	ctx := t.Context()
	from, to := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	series, _, _, err := c.Series(ctx, []string{`calls_total{pod="one"}`, `{__name__="calls_total", pod=~"one|two"}`}, from, to)
	if err != nil || len(series) != 2 || series[0]["pod"] == series[1]["pod"] {
		t.Errorf("series: %v, %v", series, err)
	}
	names, _, _, err := c.LabelNames(ctx, []string{"calls_total"}, from, to)
	if want := (model.LabelNames{"__name__", "instance", "job", "namespace", "pod", "service"}); err != nil || !slices.Equal(names, want) {
		t.Errorf("label names: got %v, %v; want %v", names, err, want)
	}
	all, _, _, err := c.LabelNames(ctx, nil, time.Time{}, time.Time{})
	if err != nil || !slices.Contains(all, "alertname") {
		t.Errorf("all label names: %v, %v", all, err)
	}
	values, _, _, err := c.LabelValues(ctx, "pod", []string{"calls_total", "up"}, from, to)
	if want := (model.LabelValues{"one", "two"}); err != nil || !slices.Equal(values, want) {
		t.Errorf("label values: got %v, %v; want %v", values, err, want)
	}
	few, warnings, _, err := c.LabelValues(ctx, "pod", nil, from, to, apiv1.WithLimit(1))
	if err != nil || len(few) != 1 || len(warnings) != 1 {
		t.Errorf("one label value: %v, %v, %v", few, warnings, err)
	}
	none, _, _, err := c.LabelValues(ctx, "pod", nil, from.Add(-24*time.Hour), from)
	if err != nil || len(none) != 0 {
		t.Errorf("label values of yesterday: %v, %v", none, err)
	}
}

func TestAPIExemplars(t *testing.T) {
	_, c := scraped(t)
	found, err := c.QueryExemplars(t.Context(), `rate(took_seconds_bucket[1m])`, time.Now().Add(-time.Hour), time.Now())
	if err != nil || len(found) != 1 || len(found[0].Exemplars) != 1 {
		t.Fatalf("got %v, %v; want one", found, err)
	}
	e := found[0].Exemplars[0]
	if e.Labels["trace_id"] != "abc" || e.Value != 0.5 || found[0].SeriesLabels["pod"] != "one" || found[0].SeriesLabels["le"] != "1.0" {
		t.Errorf("got %v of %v", e, found[0].SeriesLabels)
	}
}

func TestAPIState(t *testing.T) {
	s, c := scraped(t)
	ctx := t.Context()

	targets, err := c.Targets(ctx)
	if err != nil || len(targets.Active) != 2 || len(targets.Dropped) != 0 {
		t.Fatalf("targets: %+v, %v", targets, err)
	}
	for _, target := range targets.Active {
		if target.Health != apiv1.HealthGood || target.ScrapePool != meshPool || target.LastError != "" ||
			target.Labels["service"] != "order" || !strings.HasSuffix(target.ScrapeURL, "/metrics") || target.LastScrape.IsZero() {
			t.Errorf("target %+v", target)
		}
	}
	rules, err := c.Rules(ctx, nil)
	if err != nil || len(rules.Groups) != 1 || len(rules.Groups[0].Rules) != 2 {
		t.Fatalf("rules: %+v, %v", rules, err)
	}
	if g := rules.Groups[0]; g.Name != "calls" || g.Interval != 0.1 {
		t.Errorf("group %+v", g)
	}
	if r, ok := rules.Groups[0].Rules[0].(apiv1.RecordingRule); !ok || r.Name != "calls:sum" || r.Query != "sum(calls_total)" || r.Health != apiv1.RuleHealthGood {
		t.Errorf("rule %+v", rules.Groups[0].Rules[0])
	}
	if r, ok := rules.Groups[0].Rules[1].(apiv1.AlertingRule); !ok || r.Name != "Called" || r.State != "firing" || len(r.Alerts) != 2 || r.Labels["severity"] != "ticket" {
		t.Errorf("rule %+v", rules.Groups[0].Rules[1])
	}
	if only, err := c.Rules(ctx, []string{`{severity="ticket"}`}); err != nil || len(only.Groups) != 1 || len(only.Groups[0].Rules) != 1 {
		t.Errorf("rules with the label: %+v, %v", only, err)
	}
	alerts, err := c.Alerts(ctx)
	if err != nil || len(alerts.Alerts) != 2 {
		t.Fatalf("alerts: %+v, %v", alerts, err)
	}
	for _, a := range alerts.Alerts {
		if want := model.LabelValue(fmt.Sprint(a.Labels["pod"], " was called")); a.State != apiv1.AlertStateFiring || a.Annotations["summary"] != want || a.ActiveAt.IsZero() {
			t.Errorf("alert %+v", a)
		}
	}
	build, err := c.Buildinfo(ctx)
	if err != nil || !strings.HasPrefix(build.GoVersion, "go") {
		t.Errorf("build info: %+v, %v", build, err)
	}
	// What ends with the store is not left to callers.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, _, _, err := c.Query(gone, "up", time.Now()); err == nil {
		t.Error("a closed store answers")
	}
}

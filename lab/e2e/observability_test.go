//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// unseen are metrics of the list that a quiet local mesh has none of.
var unseen = map[string]string{
	"kube_node_status_allocatable": "modelled nodes have it, a run without them has one node of no size",
	"kube_pod_deletion_timestamp":  "only a pod on its way out has it",
	"spillway_breaker_state":       "only while breakers are on",
	// The rest of the protections that tell nothing while they are off.
	"spillway_admission_open_ratio":      "only while the gateway admits by route",
	"spillway_breaker_transitions_total": "only once a breaker changed",
	"spillway_bulkhead_in_flight":        "only while bulkheads are on",
	"spillway_pacing_rate_per_second":    "only while calls are paced",
	"spillway_retries_total":             "only once a call was sent again",
}

// seldom are labels that series have only at times: an empty one is none.
var seldom = map[string]string{
	"spillway_order_finished_total": "reason", // only a cancelled order has one
}

// TestMetricsThatDashboardsAreHeldAgainst says that lab/observability knows
// the metrics of a mesh as it is: each of its list is scraped, with these labels.
func TestMetricsThatDashboardsAreHeldAgainst(t *testing.T) {
	text, err := os.ReadFile("../observability/testdata/series.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := up(t, t.TempDir(), "--scaling", "pressure")
	info, err := m.api.GetInfo(t.Context(), &enginev1.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	m.cli(nil, "load", "--rate", "10", "--for", "5s", "--buy-ratio", "0.5")
	m.cli(nil, "load", "--rate", "5", "--for", "2s", "--http")
	for line := range strings.Lines(string(text)) {
		want := strings.Fields(line)
		if len(want) == 0 || want[0] == "#" || unseen[want[0]] != "" {
			continue
		}
		until(t, want[0]+" is scraped", func() error {
			has, err := labelsOf(t, info.GetPrometheusUrl(), want[0])
			if err != nil {
				return err
			}
			if label := seldom[want[0]]; label != "" {
				has[label] = true
			}
			if got := slices.Sorted(maps.Keys(has)); !slices.Equal(got, want[1:]) {
				return fmt.Errorf("it has the labels %q, and lab/observability/testdata/series.txt says %q", got, want[1:])
			}
			return nil
		})
	}
}

// labelsOf is every label that a series of a metric has.
func labelsOf(t *testing.T, base, metric string) (map[string]bool, error) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(base + "/api/v1/series?" + url.Values{"match[]": {metric}}.Encode())
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	var series struct {
		Data []map[string]string `json:"data"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&series); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, s := range series.Data {
		for name := range s {
			if name != "__name__" {
				found[name] = true
			}
		}
	}
	return found, nil
}

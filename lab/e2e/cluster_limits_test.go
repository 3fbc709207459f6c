//go:build cluster

package e2e

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"spillway.dev/lab/measure"
	"spillway.dev/lab/report"
	"spillway.dev/lab/scenario"
)

// limitMultiplies asks the question of scenarios/limit-multiplies.yaml in the
// cluster, in less than a minute for each variant, and judges what comes of it by
// that file's own expectations: what it finds with the local engine must be found
// here. It empties the mesh's namespace: only what makes its own mesh comes after
// it.
func limitMultiplies(c *cluster) {
	out := c.TempDir()
	_, code := c.cli("run", limitsInCluster, "--overlay", "ci", "--seed", "1", "--out", out)
	result, err := report.Read(out)
	if err != nil {
		c.Fatal(err)
	}
	// 3: the generator was late beside the cluster. It offered the same people, and
	// the bank counted what it refused all the same.
	if code != 0 && code != 1 && code != 3 {
		c.Errorf("exit code %d", code)
	}
	c.Logf("exit code %d, %s", code, result.Answer)
	for _, why := range result.Invalid {
		c.Logf("not valid: %s", why)
	}
	measures := make(map[string]map[string]measure.Summary)
	for _, v := range result.Variants {
		measures[v.Name] = v.Measures
		c.Logf("%s: %v charges over the quota, goodput %.3f of %.1f/s offered, p99 %.0f ms", v.Name,
			v.Measures["quota_breaches"].Median, v.Measures["goodput_ratio"].Median, v.Measures["offered_per_s"].Median, v.Measures["p99_ms"].Median)
		i := slices.IndexFunc(v.Recording.Services, func(s measure.Service) bool { return s.Name == "payment" })
		if i < 0 {
			c.Fatalf("%s: payment is not in the recording", v.Name)
		}
		// Of the last newcomers the recording may hear only after the load.
		if ready := v.Recording.Services[i].Ready; ready[0].V != limitBefore || highest(ready) <= limitBefore {
			c.Errorf("%s: payment went from %v to %v ready replicas, not from %d to %d", v.Name, ready[0].V, highest(ready), limitBefore, limitAfter)
		}
		if v.Measures["goodput_ratio"].Median == 0 {
			c.Errorf("%s: nobody was served", v.Name)
		}
	}
	long, err := scenario.Load(filepath.Join(tree, limits))
	if err != nil {
		c.Fatal(err)
	}
	judged := 0
	for _, e := range long.Expect {
		if e.Measure != "quota_breaches" || !e.Judged(measures) {
			continue
		}
		judged++
		ok, text := e.Check(measures)
		c.Logf("%s", text)
		if !ok {
			c.Errorf("the cluster's outcome is not that of %s: %s", limits, text)
		}
	}
	if judged != len(result.Variants) || judged != 2 {
		c.Errorf("%d expectations of %s were judged over %d variants, want 2 of each", judged, limits, len(result.Variants))
	}
	c.sharesWereKept()
}

// sharesWereKept looks at the mesh of the last variant, which still runs: none of
// its replicas of payment paced faster than an equal share in the end, and they
// had to refuse. Else it was not for the share that the bank had nothing to refuse.
func (c *cluster) sharesWereKept() {
	c.Helper()
	pods, err := c.pods(c.Context(), "payment")
	if err != nil {
		c.Fatal(err)
	}
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	these := fmt.Sprintf(`service="payment",callee="bank",pod=~%q`, strings.Join(names, "|"))
	rates, err := c.prometheus(c.Context(), "min_over_time(spillway_pacing_rate_per_second{"+these+"}[10m])")
	if err != nil {
		c.Fatal(err)
	}
	if len(rates) != limitAfter {
		c.Errorf("%d replicas of payment told their share, want %d", len(rates), limitAfter)
	}
	for _, r := range rates {
		if share := float64(limitTogether) / limitAfter; math.Abs(float64(r.Value)-share) > 0.01 {
			c.Errorf("%s paced at %v charges a second at the least, its share is %.2f", r.Metric["pod"], r.Value, share)
		}
	}
	// The counts stand still: the report waited for that.
	one := func(query string) float64 {
		found, err := c.prometheus(c.Context(), query)
		if err != nil {
			c.Fatal(err)
		}
		if len(found) != 1 {
			c.Fatalf("%s has %d values", query, len(found))
		}
		return float64(found[0].Value)
	}
	refused := one(`sum(max_over_time(spillway_refused_total{by="pacing",` + these + `}[10m]))`)
	left := one("sum(max_over_time(spillway_pacing_wait_seconds_count{" + these + "}[10m]))")
	c.Logf("share: %v charges left, %v were refused for want of a turn", left, refused)
	if refused == 0 || left == 0 {
		c.Error("nothing was held back: the limit was not at work")
	}
}

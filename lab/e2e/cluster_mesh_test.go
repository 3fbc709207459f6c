//go:build cluster

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"spillway.dev/lab/audit"
	"spillway.dev/lab/report"
)

// One mesh in a real cluster goes through a day of its life: it is applied, a
// ticket is bought and its trace read from Jaeger, autoscalers follow load,
// everything is rolled and the control plane killed under load, an audit, and
// scenarios. The overlay is applied by these tests alone.
func TestCluster(t *testing.T) {
	c := connect(t)
	defer func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
			defer cancel()
			c.explain(ctx)
		}
	}()
	c.fresh()
	for _, step := range []struct {
		name string
		run  func(*cluster)
		// vital steps are such without which no other can be told anything of.
		vital bool
	}{
		{"the overlay is applied without a warning", applyOverlay, true},
		{"all pods are ready", allReady, true},
		{"a ticket is bought in one whole trace", buyOnCluster, false},
		{"autoscalers read every kind of metric and follow load", autoscale, false},
		{"a rolling restart of everything loses nothing and runs nothing twice", rollEverything, false},
		{"the control plane dies under load and nothing is lost", loseConductor, false},
		{"the audit is clean", auditCluster, false},
		{"a scenario writes its report", scenarioOnCluster, false},
		{"a limit that each replica keeps multiplies, and a share does not", limitMultiplies, false},
		{"both engines tell the same of one scenario and seed", sameOnBothEngines, false},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(c.of(t)) }) && step.vital {
			return
		}
	}
}

// jaegerTrace is what Jaeger's query API says of a trace.
type jaegerTrace struct {
	Spans []struct {
		SpanID     string `json:"spanID"`
		Operation  string `json:"operationName"`
		ProcessID  string `json:"processID"`
		References []struct {
			Type   string `json:"refType"`
			SpanID string `json:"spanID"`
		} `json:"references"`
	} `json:"spans"`
	Processes map[string]struct {
		Service string `json:"serviceName"`
	} `json:"processes"`
}

// whole tells what a trace lacks: one root, and every parent and service there.
func (j jaegerTrace) whole() error {
	known := map[string]bool{}
	for _, span := range j.Spans {
		known[span.SpanID] = true
	}
	var roots, orphans []string
	services := map[string]bool{}
	for _, span := range j.Spans {
		services[j.Processes[span.ProcessID].Service] = true
		if len(span.References) == 0 {
			roots = append(roots, span.Operation)
		}
		for _, r := range span.References {
			if !known[r.SpanID] {
				orphans = append(orphans, span.Operation)
			}
		}
	}
	for _, name := range everyService {
		if !services[name] {
			return fmt.Errorf("%s is not in the trace: %v", name, slices.Sorted(maps.Keys(services)))
		}
	}
	if len(roots) != 1 || len(orphans) > 0 {
		return fmt.Errorf("%d roots %v, without their parents %v", len(roots), roots, orphans)
	}
	return nil
}

func buyOnCluster(c *cluster) {
	var b struct {
		TraceID string `json:"trace_id"`
		Order   struct {
			State string `json:"state"`
		} `json:"order"`
		Ticket struct {
			TicketID string `json:"ticketId"`
		} `json:"ticket"`
	}
	// Whoever started before the control plane hears of it at gRPC's next attempt.
	c.eventually("the mesh serves", func(context.Context) error {
		if _, code := c.cli("buy"); code != 0 {
			return fmt.Errorf("spillway buy: exit code %d", code)
		}
		return nil
	})
	c.cliJSON(&b, "buy")
	if b.Ticket.TicketID == "" || b.Order.State != "ORDER_STATE_CONFIRMED" {
		c.Errorf("no ticket: %+v", b)
	}
	c.eventually("Jaeger has the whole trace", func(ctx context.Context) error {
		text, err := c.through(ctx, observeNamespace, "jaeger", "16686", "/api/traces/"+b.TraceID, nil)
		if err != nil {
			return err
		}
		var answer struct {
			Data []jaegerTrace `json:"data"`
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			return err
		}
		if len(answer.Data) != 1 {
			return fmt.Errorf("%d traces", len(answer.Data))
		}
		if err := answer.Data[0].whole(); err != nil {
			return err
		}
		c.Logf("trace %s: %d spans", b.TraceID, len(answer.Data[0].Spans))
		return nil
	})
}

// counted is how often each service was asked and how often it began to work. A
// call that was answered with Unavailable did no work: its caller may ask again.
type counted struct{ asked, began map[string]float64 }

// count waits until the counts of both ends stand still and reads them. They
// are of all pods that ever were.
func (c *cluster) count() (n counted) {
	c.Helper()
	read := func(ctx context.Context, metric, less string) (map[string]float64, error) {
		query := "sum by (callee) (max_over_time(" + metric + "[1h]))"
		if less != "" {
			query += " - (sum by (callee) (max_over_time(" + less + "[1h])) or 0 * " + query + ")"
		}
		vector, err := c.prometheus(ctx, query)
		by := map[string]float64{}
		for _, sample := range vector {
			by[string(sample.Metric["callee"])] = float64(sample.Value)
		}
		return by, err
	}
	still := 0
	c.eventually("the counts of calls stand still", func(ctx context.Context) error {
		asked, err := read(ctx, "grpc_client_started_total", "")
		if err != nil {
			return err
		}
		began, err := read(ctx, `grpc_server_started_total{caller!="external"}`,
			`grpc_server_handled_total{caller!="external",grpc_code="Unavailable"}`)
		if err != nil {
			return err
		}
		if maps.Equal(asked, n.asked) && maps.Equal(began, n.began) && len(asked) > 0 {
			still++
		} else {
			still = 0
		}
		n = counted{asked, began}
		// Readings are 500 ms apart, scrapes at most 10 s.
		if still < 25 {
			return fmt.Errorf("the same for %d readings", still)
		}
		return nil
	})
	return n
}

// none that ran twice: between two counts no service began more calls than its
// callers made.
func (c *cluster) noneTwice(before, after counted) {
	c.Helper()
	calls := 0.0
	for callee, began := range after.began {
		asked, ran := after.asked[callee]-before.asked[callee], began-before.began[callee]
		calls += ran
		if ran > asked {
			c.Errorf("%s was asked %.0f times and began %.0f: %.0f ran twice", callee, asked, ran, ran-asked)
		}
	}
	c.Logf("%.0f calls between services", calls)
	if calls == 0 {
		c.Error("no call was counted")
	}
}

// beside is the load, in journeys a second, that two cores carry beside a cluster
// that starts pods at the same time.
const beside = 15

func rollEverything(c *cluster) {
	before := c.count()
	load := c.offerLoad("rolling", beside, 3)
	old := map[types.UID]string{}
	for _, name := range append(slices.Clone(replicated), "conductor") {
		patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339))
		pods, err := c.pods(c.Context(), name)
		if err != nil {
			c.Fatal(err)
		}
		for _, pod := range pods {
			old[pod.UID] = pod.Name
		}
		if _, err := c.client.AppsV1().Deployments(meshNamespace).Patch(c.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			c.Fatal(err)
		}
		c.eventually(name+" is rolled", func(ctx context.Context) error {
			d, err := c.deployment(ctx, name)
			if err != nil {
				return err
			}
			return settled(d)
		})
	}
	c.settle(append(slices.Clone(replicated), "conductor")...) // the old ones are gone
	report := load.end()
	for _, name := range append(slices.Clone(replicated), "conductor") {
		now, err := c.pods(c.Context(), name)
		if err != nil {
			c.Fatal(err)
		}
		for _, pod := range now {
			if old[pod.UID] != "" {
				c.Errorf("%s outlived the restart of %s", pod.Name, name)
			}
		}
	}
	c.nothingLost(report)
	c.noneTwice(before, c.count())
}

func loseConductor(c *cluster) {
	before := c.count()
	load := c.offerLoad("conductor", beside, 4)
	old, err := c.pods(c.Context(), "conductor")
	if err != nil {
		c.Fatal(err)
	}
	for _, pod := range old {
		if err := c.client.CoreV1().Pods(meshNamespace).Delete(c.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			c.Fatal(err)
		}
	}
	c.settle("conductor")
	c.scaleTo("catalog", 3)
	// The replica that came after the crash is known to callers.
	c.eventually("three replicas of catalog take calls", func(ctx context.Context) error {
		busy, err := c.prometheus(ctx, `sum by (pod) (rate(grpc_server_started_total{service="catalog"}[30s])) > 0`)
		if err == nil && len(busy) < 3 {
			err = fmt.Errorf("%d take calls", len(busy))
		}
		return err
	})
	c.scaleTo("catalog", 2)
	c.nothingLost(load.end())
	c.noneTwice(before, c.count())
}

// scaleTo sets the replicas of a Deployment by the lab's own command and waits.
func (c *cluster) scaleTo(name string, replicas int) {
	c.Helper()
	if _, code := c.cli("scale", name, fmt.Sprint(replicas)); code != 0 {
		c.Fatalf("scale %s to %d: exit code %d", name, replicas, code)
	}
	c.settle(name)
}

func auditCluster(c *cluster) {
	var report audit.Report
	c.cliJSON(&report, "audit", "--settle", "60s")
	c.Logf("audit counted %+v", report.Counts)
	if len(report.Violations) != 0 || report.Unsettled != 0 {
		c.Errorf("%d unsettled, violations %+v", report.Unsettled, report.Violations)
	}
	if report.Counts.Tickets == 0 {
		c.Error("the audit counted no ticket")
	}
}

// unavailable counts the calls between services that their callees answered with
// Unavailable, such as for a store that did not answer in time. Callers may ask
// another replica, which then begins a second execution.
func (c *cluster) unavailable() float64 {
	c.Helper()
	found, err := c.prometheus(c.Context(), `sum(max_over_time(grpc_server_handled_total{caller!="external",grpc_code="Unavailable"}[2h]))`)
	if err != nil {
		c.Fatal(err)
	}
	if len(found) == 0 {
		return 0
	}
	return float64(found[0].Value)
}

// scenarioOnCluster asks the question of scenarios/scale-out-pressure.yaml with
// shorter durations: in a cluster time is real, and that one takes three quarters
// of an hour. SPILLWAY_TEST_FULL=1 asks for it all the same. It empties the mesh's
// namespace: only what makes its own mesh comes after it.
func scenarioOnCluster(c *cluster) {
	file := "lab/e2e/testdata/cluster-scale-out.yaml"
	if os.Getenv("SPILLWAY_TEST_FULL") == "1" {
		file = "scenarios/scale-out-pressure.yaml"
	}
	out, before := c.TempDir(), c.unavailable()
	_, code := c.cli("run", file, "--overlay", "ci", "--out", out)
	again, doubled := c.unavailable()-before, 0.0
	result, err := report.Read(out)
	if err != nil {
		c.Fatal(err)
	}
	// Not valid is an answer too: two cores carry the cluster as well.
	c.Logf("exit code %d, %s", code, result.Answer)
	for _, why := range result.Invalid {
		c.Logf("not valid: %s", why)
	}
	if result.Valid && code != 0 && code != 1 || !result.Valid && code != 3 {
		c.Errorf("exit code %d, valid %v", code, result.Valid)
	}
	for _, name := range []string{"context", "kubernetes", "nodes", "overlay"} {
		if result.Environment[name] == "" {
			c.Errorf("the report does not tell the %s: %v", name, result.Environment)
		}
	}
	names := []string{"nothing-scales", "callers-scale", "all-scale"}
	if len(result.Variants) != len(names) {
		c.Fatalf("%d variants, want %v", len(result.Variants), names)
	}
	for i, v := range result.Variants {
		if v.Name != names[i] {
			c.Errorf("variant %d is %s, want %s", i+1, v.Name, names[i])
		}
		for _, key := range []string{
			"offered_per_s", "goodput_ratio", "p99_ms", "peak_pressure.gateway", "peak_pressure.bank", "lost_requests", "replica_seconds",
			"node_seconds", "theta_u", "quota_breaches", "sessions_lost",
		} {
			if _, there := v.Measures[key]; !there {
				c.Errorf("%s has no measure %s", v.Name, key)
			}
		}
		doubles, there := v.Measures["double_executions"]
		if !there {
			c.Errorf("%s: nobody counted what ran twice", v.Name)
		}
		doubled += doubles.Median
		if len(v.Recording.HostCPU) == 0 {
			c.Errorf("%s: nobody knows how busy the nodes were", v.Name)
		}
		for _, s := range v.Recording.Services {
			if !slices.Contains(everyService, s.Name) {
				c.Errorf("%s: %s is no service", v.Name, s.Name)
			}
		}
	}
	// A second execution follows an answer that the first one did no work, or it is
	// one too many.
	if doubled > again {
		c.Errorf("%v executions ran twice, and callees sent %v callers on", doubled, again)
	}
	c.Logf("callees sent %v callers on, %v of which began again elsewhere", again, doubled)
	if n := result.Variants[0].Measures["scaling_actions"].Median; n != 0 {
		c.Errorf("nothing scales, %v times", n)
	}
	if n := result.Variants[2].Measures["scaling_actions"].Median; n < 1 {
		c.Errorf("everything scales, %v times: %+v", n, result.Variants[2].Recording.Warnings)
	}
	page, err := os.ReadFile(filepath.Join(out, "index.html"))
	if err != nil || !strings.Contains(string(page), "<svg") {
		c.Errorf("no page with charts: %v", err)
	}
}

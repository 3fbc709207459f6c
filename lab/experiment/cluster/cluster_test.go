package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/engine/kube"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/experiment"
	"spillway.dev/lab/load"
	"spillway.dev/lab/scenario"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// root holds k8s/.
var root = filepath.Join("..", "..", "..")

// file writes a scenario and reads it.
func file(t *testing.T, more string) *scenario.Scenario {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.yaml")
	text := "scenario: s\nquestion: Is it taken?\nduration: 1m\nload: {shape: {kind: constant, rate: 1}}\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestScenariosAreCheckedAgainstTheManifestsOfTheCluster(t *testing.T) {
	e := Engine{Config: kube.Config{Namespace: "spillway"}, Overlay: "ci"}
	s := file(t, "scale: [{at: 1s, service: bank, replicas: 2}]\nvariants: [{name: a}, {name: b, components: [scaling-callers-cpu]}]\n")
	scaled, err := e.Check(s, root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"bank": true, "gateway": true, "order": true, "catalog": false, "conductor": false} {
		if scaled[name] != want {
			t.Errorf("scaled are %v: %s is %v", scaled, name, scaled[name])
		}
	}
	for text, want := range map[string]string{
		"variants: [{name: a}]\nfaults: [{at: 1s, pause: {service: order}}]\n":          "SIGSTOP",
		"variants: [{name: a, nodes: {cpu: 4, min: 1, max: 2, provision-delay: 1s}}]\n": "a cluster has its own",
		"variants: [{name: a, components: [no-such]}]\n":                                "no component",
		"variants: [{name: a}]\nscale: [{at: 1s, service: conductor, replicas: 1}]\n":   "no service",
	} {
		if _, err := e.Check(file(t, text), root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Every service waits for its last scrape, whatever the variant; nothing else does.
func TestEveryServiceIsReadToItsEnd(t *testing.T) {
	e := Engine{Config: kube.Config{Namespace: "spillway"}, Overlay: "ci"}
	text, services, err := e.manifests(root, scenario.Variant{Components: []string{"small-replicas", "scaling-cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(services) != 8 || slices.Contains(services, "conductor") || !slices.Contains(services, "gateway") {
		t.Fatalf("services %v", services)
	}
	if n := strings.Count(string(text), "SPILLWAY_DRAIN_LAST_SCRAPE"); n != len(services) {
		t.Errorf("%d wait for their last scrape, want %d", n, len(services))
	}
	if !strings.Contains(string(text), "kind: HorizontalPodAutoscaler") {
		t.Error("the variant's own components are gone")
	}
	before, err := e.render(root, manifest.Variant{}, t.TempDir())
	if err != nil || strings.Contains(string(before), "SPILLWAY_DRAIN_LAST_SCRAPE") {
		t.Errorf("the overlay itself: %v", err)
	}
}

func TestRescalesFollowFromEvents(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	event := func(s int, name, reason, message string) autoscaler.Event {
		return autoscaler.Event{At: at(s), Name: name, Reason: reason, Message: message, Kind: autoscalerKind}
	}
	got := rescales([]autoscaler.Event{
		event(1, "order", rescaled, "New size: 4; reason: cpu resource utilization (percentage of request) above target"),
		event(2, "order", "FailedGetResourceMetric", "no metrics"),
		event(3, "keda-hpa-bank", rescaled, "New size: 2; reason: external metric above target"),
		event(5, "order", rescaled, "New size: 3; reason: All metrics below target"),
		event(6, "gone", rescaled, "New size: 3; reason: All metrics below target"),
		event(7, "order", rescaled, "something else"),
	}, map[string]string{"order": "order", "keda-hpa-bank": "bank"}, map[string]int{"order": 2, "bank": 1}, []change{{at(4), "order", 6}, {at(9), "bank", 9}})
	want := []autoscaler.Rescale{
		{At: at(1), Autoscaler: "order", Target: "order", From: 2, To: 4, Reason: "cpu resource utilization (percentage of request) above target"},
		{At: at(3), Autoscaler: "keda-hpa-bank", Target: "bank", From: 1, To: 2, Reason: "external metric above target"},
		{At: at(5), Autoscaler: "order", Target: "order", From: 6, To: 3, Reason: "All metrics below target"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestTheJournalKeepsEveryTimeOfAnEventOnce(t *testing.T) {
	j := newJournal()
	event := func(s int64, kind, name string) *autoscalerv1.StreamEventsResponse {
		return &autoscalerv1.StreamEventsResponse{At: timestamppb.New(time.Unix(s, 0)), Kind: kind, Name: name, Message: "m"}
	}
	for _, e := range []*autoscalerv1.StreamEventsResponse{
		event(5, autoscalerKind, "order"), event(2, autoscalerKind, "order"), event(3, "Deployment", "order"), event(5, autoscalerKind, "order"), event(2, autoscalerKind, "bank"),
	} {
		j.add(e)
	}
	var got []string
	for _, e := range j.sorted() {
		got = append(got, fmt.Sprint(e.At.Unix(), " ", e.Name))
	}
	if want := []string{"2 bank", "2 order", "5 order"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTheBusiestNodeCounts(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	cpu := func(s, used float64) kube.CPU { return kube.CPU{At: at(s), Used: used, Cores: 2} }
	m := newMeter()
	for _, nodes := range []map[string]kube.CPU{
		{"a": cpu(0, 100), "b": cpu(1, 50)},
		{"a": cpu(10, 110), "b": cpu(11, 52)},                    // a: half of two cores
		{"a": cpu(10, 110), "b": cpu(11, 52)},                    // nothing new
		{"a": cpu(20, 110), "b": cpu(21, 72), "c": cpu(20, 1e6)}, // b: both cores; c is new
		{"a": cpu(30, 5), "b": cpu(31, 73)},                      // a was started anew
	} {
		m.add(nodes)
	}
	want := []experiment.Busy{{At: at(0), Share: 0.5}, {At: at(11), Share: 1}, {At: at(21), Share: 0.05}}
	if got := m.shares(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// fake is a cluster in which a generator runs: every look at its output shows one
// part more of it.
type fake struct {
	mu      sync.Mutex
	parts   []string
	shown   int
	refuse  int // looks that are refused at first
	task    kube.Task
	stopped bool
	removed int
}

func (f *fake) StartTask(_ context.Context, t kube.Task) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.task = t
	return nil
}

func (f *fake) TaskOutput(context.Context, string) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse > 0 {
		f.refuse--
		return nil, errors.New("it is waiting to start")
	}
	f.shown = min(f.shown+1, len(f.parts))
	return io.NopCloser(strings.NewReader(strings.Join(f.parts[:f.shown], ""))), nil
}

func (f *fake) TaskEnded(context.Context, string) (bool, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shown == len(f.parts), "Failed", nil
}

func (f *fake) StopTask(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.parts = append(f.parts, `{"record":{"offered":5,"cut_short":true}}`+"\n")
	return nil
}

func (f *fake) RemoveTask(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed++
	return nil
}

func TestAGeneratorIsHeardThoughItsOutputBreaksOff(t *testing.T) {
	f := &fake{refuse: 1, parts: []string{
		`{"begin":"2031-01-02T03:04:05Z"}` + "\n" + `{"tick":{"elapsed":1000000000}}` + "\n",
		"a warning\n" + `{"level":"info"}` + "\n" + `{"tick":{"elapsed":2000000000}}` + "\n" + `{"tick":`,
		`{"elapsed":3000000000}}` + "\n" + `{"record":{"offered":16}}` + "\n",
	}}
	plan := load.Default()
	begins, ticks := 0, []time.Duration{}
	record, err := offer(t.Context(), t.Context(), f, plan, func(time.Time) { begins++ }, func(tick load.Tick) { ticks = append(ticks, tick.Elapsed) })
	if err != nil || record.Report.Offered != 16 || begins != 1 || !slices.Equal(ticks, []time.Duration{1e9, 2e9, 3e9}) {
		t.Errorf("record %+v, %v, %d begins, ticks %v", record, err, begins, ticks)
	}
	if f.removed != 2 || !strings.Contains(f.task.Files[planFile], `"rate":100`) || !slices.Contains(f.task.Args, "xds:///gateway") {
		t.Errorf("removed %d times, task %+v", f.removed, f.task)
	}
}

func TestAGeneratorThatFailsSaysWhy(t *testing.T) {
	f := &fake{parts: []string{`{"begin":"2031-01-02T03:04:05Z"}` + "\nspillway: no mesh\n"}}
	record, err := offer(t.Context(), t.Context(), f, load.Default(), func(time.Time) {}, func(load.Tick) {})
	if record != nil || err == nil || !strings.Contains(err.Error(), "no mesh") {
		t.Errorf("%+v, %v", record, err)
	}
}

// When nobody wants more load the generator is stopped, and its record still taken.
func TestAGeneratorIsStopped(t *testing.T) {
	f := &fake{parts: []string{`{"begin":"2031-01-02T03:04:05Z"}` + "\n", ""}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	record, err := offer(ctx, t.Context(), f, load.Default(), func(time.Time) { stop() }, func(load.Tick) {})
	if err != nil || !record.CutShort || !f.stopped {
		t.Errorf("%+v, %v, stopped %v", record, err, f.stopped)
	}
}

func TestTheGeneratorGetsItsRates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rates.csv")
	if err := os.WriteFile(path, []byte("0,5\n10,7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plan := load.Default()
	plan.Shape = load.Shape{Kind: "csv", File: path}
	got, err := task(plan)
	if err != nil || got.Files[ratesFile] != "0,5\n10,7\n" || !strings.Contains(got.Files[planFile], kube.TaskFiles+"/"+ratesFile) {
		t.Errorf("%+v, %v", got, err)
	}
}

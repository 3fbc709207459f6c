//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"spillway.dev/lab/metrics"
	"spillway.dev/lab/report"
)

// runScenario runs `spillway run` in a directory of its own and returns its exit
// code, what it printed, and where the report is. meanwhile is called with what
// it has printed so far, once it runs.
func runScenario(t *testing.T, file string, meanwhile func(said *output), flags ...string) (code int, said *output, dir string) {
	t.Helper()
	dir, said = t.TempDir(), &output{}
	cmd := exec.Command(binary(t), append([]string{"run", file, "--out", dir}, flags...)...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile(said)
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what `spillway run` printed:\n%s", said)
		}
	})
	return code, said, dir
}

// TestScenario runs a short scenario from the file to the report.
func TestScenario(t *testing.T) {
	code, _, dir := runScenario(t, filepath.Join("testdata", "short.yaml"), nil, "--timelapse", "10", "--seed", "7")
	result, err := report.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	// A machine that is busy with other things may not be honest here; it must
	// then say so, and otherwise must not.
	switch {
	case result.Valid && code != 0, !result.Valid && code != 3:
		t.Errorf("exit code %d, valid %v: %v", code, result.Valid, result.Expectations)
	}
	if len(result.Variants) != 2 || result.Variants[0].Name != "fixed" || result.Variants[1].Name != "scaled" {
		t.Fatalf("variants: %+v", result.Variants)
	}
	fixed, scaled := result.Variants[0], result.Variants[1]
	for _, v := range result.Variants {
		for _, key := range []string{
			"offered_per_s", "goodput_ratio", "p99_ms", "overload_seconds", "peak_pressure.gateway", "peak_pressure.bank",
			"amplification.inventory", "lost_requests", "double_executions", "replica_seconds", "node_seconds", "theta_u", "tau_o",
			"quota_breaches", "sessions_lost",
		} {
			if _, ok := v.Measures[key]; !ok {
				t.Errorf("%s has no measure %s", v.Name, key)
			}
		}
		// 8 a second for 10 of 90 s and 50 for the rest, of which Poisson arrivals
		// differ by chance.
		if got, want := v.Measures["offered_per_s"].Median, (8.0*10+50*80)/90; math.Abs(got-want) > want/4 {
			t.Errorf("%s: offered %.1f/s, planned %.1f/s", v.Name, got, want)
		}
		if len(v.Recording.Faults) != 1 || !strings.Contains(v.Recording.Faults[0].Text, "inventory") {
			t.Errorf("%s: faults %+v", v.Name, v.Recording.Faults)
		}
	}
	if a, b := fixed.Measures["offered_per_s"], scaled.Measures["offered_per_s"]; a != b {
		t.Errorf("one seed offered %v and %v", a, b)
	}
	if got := fixed.Measures["replica_seconds"].Median; math.Abs(got-15*90) > 40 {
		t.Errorf("14 replicas, and one more from 50 s on, for 90 s cost %v replica-seconds", got)
	}
	if got := fixed.Measures["scaling_actions"].Median; got != 1 { // the one by hand
		t.Errorf("without autoscalers: %v scaling actions", got)
	}
	if got := scaled.Measures["scaling_actions"].Median; got < 3 {
		t.Errorf("with autoscalers: %v scaling actions: %+v", got, scaled.Recording.Actions)
	}
	if !strings.Contains(result.Answer, "With autoscalers") {
		t.Errorf("the answer: %q", result.Answer)
	}
	for _, file := range []string{"index.html", "report.json", "data.json", "csv/measures.csv"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	series(t, filepath.Join(dir, "runs", "scaled-1", "metrics"))
	if left, err := filepath.Glob(filepath.Join(dir, "runs", "*", "state")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestSecondInterruptEndsAtOnce ends a run twice while load is offered: nothing of
// it is left, neither a process nor a state directory, and no report.
func TestSecondInterruptEndsAtOnce(t *testing.T) {
	dir, said := t.TempDir(), &output{}
	cmd := exec.Command(binary(t), "run", filepath.Join("testdata", "short.yaml"), "--out", dir, "--timelapse", "2", "--variant", "fixed")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // it has ended, unless the test fails
	until(t, "the load begins", func() error {
		if !strings.Contains(said.String(), " load\n") {
			return errors.New(said.String())
		}
		return nil
	})
	var ledger []struct {
		PID int `json:"pid"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "runs", "fixed-1", "state", "processes.json"))
	if err == nil {
		err = json.Unmarshal(text, &ledger)
	}
	if err != nil || len(ledger) < 10 {
		t.Fatalf("%d processes run, %v", len(ledger), err)
	}
	interrupt := func() {
		t.Helper()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	interrupt()
	until(t, "the first one is noticed", func() error {
		if !strings.Contains(said.String(), "Ctrl-C again") {
			return errors.New(said.String())
		}
		return nil
	})
	interrupt()
	_ = cmd.Wait() // its exit code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130: %s", code, said)
	}
	for _, p := range ledger {
		if err := syscall.Kill(p.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d still runs: %v", p.PID, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "runs", "*", "state")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "report.json")); !os.IsNotExist(err) {
		t.Errorf("a report: %v", err)
	}
}

// series reads what a finished run keeps.
func series(t *testing.T, dir string) {
	t.Helper()
	finished, err := metrics.OpenFinished(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer finished.Close()
	_, last := finished.Span()
	got, err := finished.Query(t.Context(), "max(max_over_time(spillway:service_offered_calls:rate[1h]))", last)
	if err != nil || len(got) != 1 || !(got[0].F > 0) {
		t.Errorf("the series of the run: %v, %v", got, err)
	}
}

// TestBusyHostIsNotBelieved runs the scenario on a machine whose every core is
// kept busy while load is offered.
func TestBusyHostIsNotBelieved(t *testing.T) {
	var spinning sync.WaitGroup
	defer spinning.Wait()
	busy := func(said *output) {
		stop := make(chan struct{})
		defer close(stop)
		until(t, "the load begins", func() error {
			if !strings.Contains(said.String(), " load\n") {
				return errors.New(said.String())
			}
			return nil
		})
		for range 2 * runtime.NumCPU() {
			spin := exec.Command("sh", "-c", "while :; do :; done")
			if err := spin.Start(); err != nil {
				t.Fatal(err)
			}
			spinning.Go(func() {
				<-stop
				_ = spin.Process.Kill()
				_ = spin.Wait() // it was killed
			})
		}
		until(t, "the load is over", func() error {
			if !strings.Contains(said.String(), " reading\n") {
				return errors.New(said.String())
			}
			return nil
		})
	}
	code, _, dir := runScenario(t, filepath.Join("testdata", "short.yaml"), busy, "--timelapse", "10", "--variant", "fixed")
	if code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var summary struct {
		Valid *bool `json:"valid"`
	}
	if err := json.Unmarshal(text, &summary); err != nil || summary.Valid == nil || *summary.Valid {
		t.Errorf("valid is %v (%v), want false: %s", summary.Valid, err, text)
	}
}

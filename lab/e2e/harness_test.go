//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"spillway.dev/lab/engine/client"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

const root = "../.."

// services are the Deployments of the mesh.
var services = []string{"gateway", "session", "catalog", "inventory", "order", "payment", "bank", "ticketing"}

// patience bounds every wait for a condition. It is long because a loaded
// two-core machine must not fail a test; no test waits for it to pass.
const patience = 90 * time.Second

// mesh is a running `spillway up`.
type mesh struct {
	t      *testing.T
	dir    string   // of its state
	binary string   // the spillway that runs it
	folder string   // where its commands run
	env    []string // nil: that of this process
	cmd    *exec.Cmd
	api    enginev1.EngineServiceClient
	said   *output
	exited chan struct{}
}

// output collects what a process prints while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", "spillway"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return path
}

// up starts a mesh whose state is in dir and waits until it is ready. flags are
// more of `spillway up`.
func up(t *testing.T, dir string, flags ...string) *mesh {
	t.Helper()
	m := &mesh{t: t, dir: dir, binary: binary(t), folder: root}
	m.start(flags...)
	return m
}

// start runs `spillway up` and waits until the mesh is ready.
func (m *mesh) start(flags ...string) {
	t := m.t
	t.Helper()
	m.said, m.exited = &output{}, make(chan struct{})
	m.cmd = exec.Command(m.binary, append([]string{"up", "--dir", m.dir}, flags...)...)
	m.cmd.Dir, m.cmd.Env = m.folder, m.env
	m.cmd.Stdout, m.cmd.Stderr = m.said, m.said
	begin := time.Now()
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = m.cmd.Wait() // the state tells how it ended
		close(m.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-m.exited:
		default:
			m.interrupt()
		}
		if t.Failed() {
			t.Logf("what `spillway up` printed:\n%s", m.said)
		}
	})
	var closeAPI func() error
	until(t, "the engine answers", func() (err error) {
		select {
		case <-m.exited:
			t.Fatalf("`spillway up` ended: %s", m.cmd.ProcessState)
		default:
		}
		m.api, closeAPI, err = client.Dial(m.dir)
		return err
	})
	t.Cleanup(func() { closeAPI() })
	m.ready()
	t.Logf("ready %v after `spillway up`", time.Since(begin).Round(time.Millisecond))
}

// interrupt is Ctrl-C; it returns when the engine has ended.
func (m *mesh) interrupt() {
	m.t.Helper()
	if err := m.cmd.Process.Signal(os.Interrupt); err != nil {
		m.t.Fatal(err)
	}
	m.ended()
}

func (m *mesh) ended() {
	m.t.Helper()
	select {
	case <-m.exited:
	case <-time.After(patience):
		m.t.Fatal("`spillway up` does not end")
	}
}

// ready waits until every Deployment has what it wants, and no more.
func (m *mesh) ready() {
	m.t.Helper()
	until(m.t, "every replica is ready and none is on its way out", func() error {
		list, err := m.api.ListWorkloads(m.t.Context(), &enginev1.ListWorkloadsRequest{})
		if err != nil {
			return err
		}
		for _, name := range services {
			w := workload(list, name)
			if w == nil {
				return fmt.Errorf("no %s", name)
			}
			if w.GetReady() != w.GetDesired() || len(w.GetReplicas()) != int(w.GetDesired()) {
				return fmt.Errorf("%s: %d of %d ready, %d there", name, w.GetReady(), w.GetDesired(), len(w.GetReplicas()))
			}
		}
		return nil
	})
}

func workload(list *enginev1.ListWorkloadsResponse, name string) *enginev1.Workload {
	for _, w := range list.GetWorkloads() {
		if w.GetName() == name {
			return w
		}
	}
	return nil
}

func (m *mesh) workload(name string) *enginev1.Workload {
	m.t.Helper()
	list, err := m.api.ListWorkloads(m.t.Context(), &enginev1.ListWorkloadsRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	w := workload(list, name)
	if w == nil {
		m.t.Fatalf("no workload %s", name)
	}
	return w
}

// scale sets the replicas of a Deployment.
func (m *mesh) scale(name string, n int32) {
	m.t.Helper()
	if _, err := m.api.Scale(m.t.Context(), &enginev1.ScaleRequest{Workload: name, Replicas: n}); err != nil {
		m.t.Fatal(err)
	}
}

// pids is the processes of all replicas.
func (m *mesh) pids() (all []int) {
	m.t.Helper()
	list, err := m.api.ListWorkloads(m.t.Context(), &enginev1.ListWorkloadsRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, w := range list.GetWorkloads() {
		for _, r := range w.GetReplicas() {
			if r.GetPid() != 0 {
				all = append(all, int(r.GetPid()))
			}
		}
	}
	return all
}

// cli runs a command of bin/spillway against the mesh; its standard output is
// decoded into v as JSON if v is not nil. The exit code is checked by the caller.
func (m *mesh) cli(v any, args ...string) int {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.binary, append(args, "--dir", m.dir)...)
	cmd.Dir, cmd.Env = m.folder, m.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit {
		m.t.Fatal(err)
	}
	code := cmd.ProcessState.ExitCode()
	if code != 0 {
		m.t.Logf("spillway %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout.Bytes(), stderr.Bytes())
	}
	if v != nil {
		if err := json.Unmarshal(stdout.Bytes(), v); err != nil {
			m.t.Fatalf("spillway %s does not print JSON: %v\n%s", strings.Join(args, " "), err, stdout.Bytes())
		}
	}
	return code
}

// alive tells whether a process is there and is no zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// scrape reads a replica's metrics.
func scrape(ctx context.Context, address string) (map[string]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bufio.NewReader(resp.Body))
}

// total sums a counter over the label sets that have all of labels.
func total(families map[string]*dto.MetricFamily, name string, labels map[string]string) (sum float64) {
	for _, metric := range families[name].GetMetric() {
		matching := 0
		for _, pair := range metric.GetLabel() {
			if want, ok := labels[pair.GetName()]; ok && want == pair.GetValue() {
				matching++
			}
		}
		if matching == len(labels) {
			sum += metric.GetCounter().GetValue()
		}
	}
	return sum
}

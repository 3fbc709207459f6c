//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"spillway.dev/lab/engine/client"
	"spillway.dev/lab/engine/local"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/rig"
	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// TestSixtyReplicas holds a mesh of 60 replicas within the memory that is promised
// for it on two cores, and shows what it costs to keep it idle.
func TestSixtyReplicas(t *testing.T) {
	const (
		most = 3 << 30 // bytes resident, of everything together
		rest = 20 * time.Second
	)
	replicas := map[string]int{
		"gateway": 12, "session": 8, "catalog": 8, "inventory": 8, "order": 9, "payment": 8, "bank": 1, "ticketing": 6,
	}
	var v manifest.Variant
	sum := 0
	for name, n := range replicas {
		sum += n
		v.Patches = append(v.Patches, manifest.Patch{
			Target: manifest.Selector{Kind: "Deployment", Name: name},
			Patch:  fmt.Sprintf("- {op: replace, path: /spec/replicas, value: %d}", n),
		})
	}
	if sum != 60 {
		t.Fatalf("%d replicas", sum)
	}
	dir := filepath.Join(t.TempDir(), "state")
	begin := time.Now()
	log := slog.New(slog.DiscardHandler)
	lab, err := rig.Up(t.Context(), rig.Options{
		Engine: local.Options{
			Root: root, StateDir: dir, Log: log, Traces: trace.NewStore(10),
			Conductor: []string{binary(t), "conductor"}, Variant: v,
		},
		Timelapse: 10, // scrapes, rules and autoscaler as busy as experiments have them
		Log:       log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := lab.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	wait, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := lab.Engine.WaitReady(wait); err != nil {
		t.Fatal(err)
	}
	t.Logf("60 replicas are ready after %v", time.Since(begin).Round(10*time.Millisecond))

	api, closeAPI, err := client.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAPI()
	m := &mesh{t: t, dir: dir, binary: binary(t), folder: root, api: api}
	others := append(m.pids(), redisPID(t, dir))
	all := append(slices.Clone(others), os.Getpid())
	if len(all) != 60+1+1+1 {
		t.Errorf("%d processes, want the replicas, the conductor, Redis and this one", len(all))
	}
	before, ownBefore := cpu(t, others), cpu(t, []int{os.Getpid()})
	time.Sleep(rest) // what is measured is what time costs
	mesh := (cpu(t, others) - before).Seconds() / rest.Seconds()
	own := (cpu(t, []int{os.Getpid()}) - ownBefore).Seconds() / rest.Seconds()
	var bytes int64
	for _, pid := range all {
		bytes += resident(t, pid)
	}
	t.Logf("idle: the engine with metrics store and autoscaler takes %.1f %% of a core, all others %.1f %%; %d MiB are resident, %d of them the engine's",
		100*own, 100*mesh, bytes>>20, resident(t, os.Getpid())>>20)
	for _, w := range m.workloads() {
		var each int64
		for _, r := range w.GetReplicas() {
			each += resident(t, int(r.GetPid()))
		}
		t.Logf("%-9s %d × %.1f MiB", w.GetName(), len(w.GetReplicas()), float64(each)/float64(len(w.GetReplicas()))/(1<<20))
	}
	if bytes >= most {
		t.Errorf("%d MiB resident, want less than %d", bytes>>20, most>>20)
	}
	for name, n := range replicas {
		if w := m.workload(name); int(w.GetReady()) != n || slices.ContainsFunc(w.GetReplicas(), func(r *enginev1.Replica) bool { return r.GetRestarts() != 0 }) {
			t.Errorf("%s: %v", name, w)
		}
	}
}

func (m *mesh) workloads() []*enginev1.Workload {
	m.t.Helper()
	list, err := m.api.ListWorkloads(m.t.Context(), &enginev1.ListWorkloadsRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	return list.GetWorkloads()
}

// redisPID reads Redis' process id from the engine's ledger.
func redisPID(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "processes.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), `{"name":"redis","pid":`)
	pid, err := strconv.Atoi(strings.SplitN(after, ",", 2)[0])
	if !found || err != nil {
		t.Fatalf("no redis in %s", text)
	}
	return pid
}

// resident is the memory of a process that is in RAM, in bytes.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "VmRSS:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}

// cpu is the CPU time that processes have taken so far.
func cpu(t *testing.T, pids []int) (sum time.Duration) {
	t.Helper()
	const tick = time.Second / 100 // USER_HZ, the same on every architecture that Go runs on
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, i := range []int{11, 12} { // utime and stime, counted from behind the name
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"spillway.dev/lab/audit"
	"spillway.dev/lab/load"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// One mesh goes through a day of its life: a purchase, load, scaling under
// load, crashes under load, an audit, and the end.
func TestMesh(t *testing.T) {
	m := up(t, filepath.Join(t.TempDir(), "state"))
	for _, step := range []struct {
		name string
		run  func(*testing.T, *mesh)
	}{
		{"a ticket is bought in one trace", buyTicket},
		{"load brings no error", offerLoad},
		{"new replicas share the load at once and leave without a loss", scaleCatalog},
		{"every term of what a service wants is told, and they multiply out", explainEach},
		{"a rolling update of every service loses nothing", restartEach},
		{"the control plane dies and comes back", killConductor},
		{"invariants outlive crashes", killEach},
		{"no secret is in logs, traces or metrics", keepSecrets},
		{"Ctrl-C leaves nothing behind", leaveNothing},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			here := *m
			here.t = t
			step.run(t, &here)
		}) {
			return
		}
	}
}

// offer starts load in the background and returns a function that waits for its
// report.
func (m *mesh) offer(rate float64, d time.Duration, seed int) func() *load.Report {
	m.t.Helper()
	var report load.Report
	var done sync.WaitGroup
	done.Go(func() {
		m.cli(&report, "load", "--json", "--rate", fmt.Sprint(rate), "--for", d.String(), "--seed", fmt.Sprint(seed))
	})
	return func() *load.Report {
		m.t.Helper()
		done.Wait()
		m.t.Logf("offered %d (%.1f/s) good %d refused %v late %d errors %v p50 %.0f p99 %.0f p99.9 %.0f ms, lag p99 %.2f ms, lateness %v",
			report.Offered, report.OfferedPerS, report.Good, report.Refused, report.Late, report.Errors,
			report.Latency.P50, report.Latency.P99, report.Latency.P999, report.Lag.P99, report.Lateness)
		return &report
	}
}

// noErrors fails the test when a journey was lost.
func noErrors(t *testing.T, r *load.Report) {
	t.Helper()
	if len(r.Errors) != 0 || len(r.Shed) != 0 || r.Good == 0 || r.Purchases == 0 {
		t.Errorf("errors %v, shed %v, %d good, %d purchases", r.Errors, r.Shed, r.Good, r.Purchases)
	}
}

func (m *mesh) auditClean() {
	m.t.Helper()
	var result struct {
		audit.Result
	}
	code := m.cli(&result, "audit", "--json", "--settle", "60s")
	m.t.Logf("audit counted %+v", result.Counts)
	if code != 0 || len(result.Violations) != 0 || result.Unsettled != 0 {
		m.t.Errorf("audit: exit code %d, %d unsettled, violations %+v", code, result.Unsettled, result.Violations)
	}
	if result.Counts.Tickets == 0 {
		m.t.Error("the audit counted no ticket")
	}
}

func offerLoad(t *testing.T, m *mesh) {
	report := m.offer(100, 20*time.Second, 1)()
	noErrors(t, report)
	if len(report.Lateness) == 0 {
		t.Errorf("no lateness of replicas: %s", report.LatenessNote)
	}
	m.auditClean()
}

// watchCalls scrapes the replicas of catalog until stop is called and returns
// how many calls each had handled when it was last seen. A replica that leaves
// takes no new call in its preStop second, so what was last seen is all.
func watchCalls(m *mesh) (handled func() map[string]float64, stop func()) {
	ctx, cancel := context.WithCancel(m.t.Context())
	var mu sync.Mutex
	seen := map[string]float64{}
	round := func() {
		list, err := m.api.ListWorkloads(ctx, &enginev1.ListWorkloadsRequest{})
		if err != nil {
			return
		}
		for _, r := range workload(list, "catalog").GetReplicas() {
			if families, err := scrape(ctx, r.GetAdminAddress()); err == nil {
				mu.Lock()
				seen[r.GetName()] = total(families, "grpc_server_handled_total", map[string]string{"grpc_service": "spillway.catalog.v1.CatalogService"})
				mu.Unlock()
			}
		}
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			round()
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	handled = func() map[string]float64 {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(seen)
	}
	return handled, func() { round(); cancel(); watching.Wait() }
}

// catalogCalls is how many calls each replica of catalog has handled by now.
func (m *mesh) catalogCalls() map[string]float64 {
	m.t.Helper()
	calls := map[string]float64{}
	for _, r := range m.workload("catalog").GetReplicas() {
		families, err := scrape(m.t.Context(), r.GetAdminAddress())
		if err != nil {
			m.t.Fatal(err)
		}
		calls[r.GetName()] = total(families, "grpc_server_handled_total", map[string]string{"grpc_service": "spillway.catalog.v1.CatalogService"})
	}
	return calls
}

// attempts is how many calls the gateways have sent to catalog.
func attempts(m *mesh) (sum float64) {
	m.t.Helper()
	for _, r := range m.workload("gateway").GetReplicas() {
		families, err := scrape(m.t.Context(), r.GetAdminAddress())
		if err != nil {
			m.t.Fatal(err)
		}
		sum += total(families, "grpc_client_attempts_total", map[string]string{"callee": "catalog"})
	}
	return sum
}

func scaleCatalog(t *testing.T, m *mesh) {
	handled, stop := watchCalls(m)
	var once sync.Once
	defer once.Do(stop)
	until(t, "catalog's metrics are seen", func() error {
		if len(handled()) < len(m.workload("catalog").GetReplicas()) {
			return fmt.Errorf("seen %v", handled())
		}
		return nil
	})
	sentBefore, before := attempts(m), handled()

	report := m.offer(100, 25*time.Second, 2)
	m.scale("catalog", 5)
	m.ready()
	// Even from two seconds after the last of them became ready, at the latest. A
	// window is four seconds long: at 160 calls a second and round robin from two
	// gateways each replica gets 128 ± 2, and the readings, which are not made at
	// one instant, add some.
	const step, length = 500 * time.Millisecond, 8 // readings, steps of a window
	tick := time.NewTicker(step)
	defer tick.Stop()
	var readings []map[string]float64
	even := false
	for begin := 0; begin <= 4 && !even; {
		readings = append(readings, m.catalogCalls())
		if len(readings) > begin+length {
			var counts []float64
			for name, calls := range readings[begin+length] {
				counts = append(counts, calls-readings[begin][name])
			}
			least, most := slices.Min(counts), slices.Max(counts)
			t.Logf("calls per replica in 4 s, from %v after ready: %v", time.Duration(begin)*step, counts)
			even = len(counts) == 5 && least > 0 && most/least <= 1.10
			begin++
		}
		<-tick.C
	}
	if !even {
		t.Error("calls per replica are not within 10 % of each other 2 s after scaling")
	}
	m.scale("catalog", 1)
	m.ready()
	noErrors(t, report())
	once.Do(stop)

	sent := attempts(m) - sentBefore
	var got float64
	for name, n := range handled() {
		got += n - before[name]
	}
	t.Logf("the gateways sent %.0f calls to catalog, its replicas handled %.0f", sent, got)
	if sent != got || sent == 0 {
		t.Errorf("sent %.0f calls, handled %.0f: a call was lost or ran twice", sent, got)
	}
	m.scale("catalog", 2)
	m.ready()
}

func restartEach(t *testing.T, m *mesh) {
	report := m.offer(40, 30*time.Second, 3)
	for _, name := range services {
		if name == "bank" {
			continue // one replica whose journal only one process may have: it is replaced, not rolled
		}
		old := m.workload(name).GetReplicas()
		if _, err := m.api.Restart(t.Context(), &enginev1.RestartRequest{Workload: name}); err != nil {
			t.Fatal(err)
		}
		until(t, name+" runs new replicas only", func() error {
			w := m.workload(name)
			for _, r := range w.GetReplicas() {
				if slices.ContainsFunc(old, func(o *enginev1.Replica) bool { return o.GetName() == r.GetName() }) {
					return fmt.Errorf("%s is still there", r.GetName())
				}
			}
			if w.GetReady() != w.GetDesired() {
				return fmt.Errorf("%d of %d ready", w.GetReady(), w.GetDesired())
			}
			return nil
		})
	}
	noErrors(t, report())
	m.auditClean()
}

func killConductor(t *testing.T, m *mesh) {
	report := m.offer(50, 8*time.Second, 4)
	if _, err := m.api.Kill(t.Context(), &enginev1.KillRequest{Workload: "conductor"}); err != nil {
		t.Fatal(err)
	}
	m.scale("catalog", 3)
	m.ready()
	handled, stop := watchCalls(m)
	until(t, "the replica that came after the crash gets calls", func() error {
		busy := 0
		for _, n := range handled() {
			if n > 0 {
				busy++
			}
		}
		if busy < 3 {
			return fmt.Errorf("%d of 3 replicas have handled calls: %v", busy, handled())
		}
		return nil
	})
	stop()
	noErrors(t, report())
	m.scale("catalog", 2)
	m.ready()
}

func killEach(t *testing.T, m *mesh) {
	report := m.offer(60, 40*time.Second, 5)
	for _, name := range services {
		w := m.workload(name)
		for _, r := range w.GetReplicas() {
			if _, err := m.api.Kill(t.Context(), &enginev1.KillRequest{Workload: name, Replica: r.GetName()}); err != nil {
				t.Fatal(err)
			}
			until(t, r.GetName()+" is ready again", func() error {
				for _, now := range m.workload(name).GetReplicas() {
					if now.GetName() == r.GetName() && now.GetReady() && now.GetRestarts() > r.GetRestarts() {
						return nil
					}
				}
				return fmt.Errorf("not yet")
			})
		}
	}
	if r := report(); r.Good == 0 || r.Purchases == 0 {
		t.Errorf("nothing was served while replicas were killed: %+v", r)
	}
	m.ready()
	m.auditClean()
}

// The cards and tokens of a whole day's purchases are nowhere to be read.
func keepSecrets(t *testing.T, m *mesh) {
	const card = "tok_e2e_secret_card"
	if code := m.cli(nil, "buy", "--card", card); code != 0 {
		t.Fatalf("buy: exit code %d", code)
	}
	secrets := regexp.MustCompile(`tok_[A-Za-z0-9_]+|[Bb]earer [A-Za-z0-9_-]{20,}|spillway_session=[A-Za-z0-9_-]+`)
	looked := 0
	look := func(where string, text []byte) {
		looked++
		if found := secrets.Find(text); found != nil {
			t.Errorf("%s holds %q", where, found)
		}
	}
	err := filepath.WalkDir(filepath.Join(m.dir, "logs"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	list, err := m.api.ListTraces(t.Context(), &enginev1.ListTracesRequest{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, summary := range list.GetTraces() {
		trace, err := m.api.GetTrace(t.Context(), &enginev1.GetTraceRequest{TraceId: summary.GetTraceId()})
		if err != nil {
			t.Fatal(err)
		}
		look("trace "+summary.GetTraceId(), []byte(protojson.Format(trace)))
	}
	for _, name := range services {
		for _, r := range m.workload(name).GetReplicas() {
			resp, err := http.Get("http://" + r.GetAdminAddress() + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			look("metrics of "+r.GetName(), text)
		}
	}
	t.Logf("looked at %d logs, traces and metric pages", looked)
	if looked < 30 {
		t.Error("that is too few: has something moved?")
	}
}

func leaveNothing(t *testing.T, m *mesh) {
	pids := m.pids()
	m.interrupt()
	if code := m.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("`spillway up` ended with exit code %d", code)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d of the mesh outlived it", pid)
		}
	}
}

// Two meshes run side by side; one whose engine is killed with -9 is cleaned up
// by the next `up`, and what it had stored is still there.
func TestTwoMeshesAndAKilledEngine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "one")
	one := up(t, dir)
	two := up(t, filepath.Join(t.TempDir(), "two"))
	if code := one.cli(nil, "buy"); code != 0 {
		t.Fatalf("buy in the first mesh: exit code %d", code)
	}
	if code := two.cli(nil, "buy"); code != 0 {
		t.Fatalf("buy in the second mesh: exit code %d", code)
	}
	pids := one.pids()
	if err := one.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	one.ended()

	again := up(t, dir)
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d of the killed engine still runs after the next `up`", pid)
		}
	}
	again.auditClean()
	two.interrupt()
	again.interrupt()
}

// bought is what `spillway buy --json` prints.
type bought struct {
	TraceID string `json:"trace_id"`
	Order   struct {
		State string `json:"state"`
	} `json:"order"`
	Ticket struct {
		TicketID string `json:"ticketId"`
	} `json:"ticket"`
	Roots    int      `json:"roots"`
	Services []string `json:"services"`
}

// The trace of a purchase is one tree through every service on its way, also
// across JetStream into ticketing.
func buyTicket(t *testing.T, m *mesh) {
	var b bought
	if code := m.cli(&b, "buy", "--json"); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if b.Ticket.TicketID == "" || b.Order.State != "ORDER_STATE_CONFIRMED" {
		t.Errorf("no ticket: %+v", b)
	}
	for _, name := range services {
		if !slices.Contains(b.Services, name) {
			t.Errorf("%s is not in the trace: %v", name, b.Services)
		}
	}
	if b.Roots != 1 {
		t.Errorf("the trace has %d roots, not one", b.Roots)
	}
	if code := m.cli(nil, "trace", b.TraceID); code != 0 {
		t.Errorf("`spillway trace %s`: exit code %d", b.TraceID, code)
	}
}

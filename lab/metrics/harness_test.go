package metrics

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir) // this process is to be killed, see TestAKilledRun
		return
	}
	goleak.VerifyTestMain(m)
}

// quick is a scrape interval at which tests do not wait long.
const quick = 50 * time.Millisecond

// patience is how long a condition may take to hold on a busy machine.
const patience = 30 * time.Second

// eventually waits until what holds says "".
func eventually(t *testing.T, holds func() string) {
	t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		missing := holds()
		if missing == "" {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("still after %v: %s", patience, missing)
		case <-again.C:
		}
	}
}

// open opens a store that ends with the test.
func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.ScrapeInterval == 0 {
		cfg.ScrapeInterval = quick
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// replica is something to scrape.
type replica struct {
	server *httptest.Server
	calls  prometheus.Counter
	took   prometheus.Histogram
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	reg := prometheus.NewRegistry()
	r := &replica{
		calls: prometheus.NewCounter(prometheus.CounterOpts{Name: "calls_total", Help: "Calls."}),
		took:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: "Time.", Buckets: []float64{1}}),
	}
	reg.MustRegister(r.calls, r.took)
	// As services serve theirs.
	handler := promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg, EnableOpenMetrics: true})
	mux := http.NewServeMux()
	mux.Handle("/metrics", handler)
	r.server = httptest.NewServer(mux)
	t.Cleanup(r.server.Close)
	return r
}

func (r *replica) target(pod string) Target {
	return Target{Address: r.server.Listener.Addr().String(), Labels: map[string]string{
		"namespace": "spillway", "pod": pod, "service": "order", "node": "",
	}}
}

// value is the one value of an expression now; ok is false when there is none.
func value(t *testing.T, s *Store, expr string) (v float64, ok bool) {
	t.Helper()
	vector, err := s.Query(t.Context(), expr, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(vector) == 0 {
		return 0, false
	}
	if len(vector) > 1 {
		t.Fatalf("%s has %d values: %v", expr, len(vector), vector)
	}
	return vector[0].F, true
}

// write puts a file into a directory of the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// taken is an address that somebody listens on.
func taken(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

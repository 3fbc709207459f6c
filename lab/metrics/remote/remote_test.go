package remote

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"spillway.dev/lab/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds the wait for a condition on a busy machine.
const patience = 30 * time.Second

// behind serves the API of a store, and a configuration, which the store's own API
// has not.
func behind(t *testing.T, store *metrics.Store, config func() string) string {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/status/config" {
			_, _ = w.Write([]byte(config()))
			return
		}
		url := *r.URL
		url.Scheme, url.Host = "http", store.URL()[len("http://"):]
		req, err := http.NewRequestWithContext(r.Context(), r.Method, url.String(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := transport.RoundTrip(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		buffer := make([]byte, 32<<10)
		for {
			n, err := resp.Body.Read(buffer)
			_, _ = w.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// What is read over HTTP is what the store answers in the process.
func TestAnswersAreThoseOfTheStore(t *testing.T) {
	store, err := metrics.Open(t.Context(), metrics.Config{Dir: t.TempDir(), ScrapeInterval: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	registry := prometheus.NewRegistry()
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total", Help: "Calls."}, []string{"callee"})
	registry.MustRegister(calls)
	calls.WithLabelValues("order").Add(3)
	calls.WithLabelValues("bank").Add(4)
	store.Gatherer("test", registry)

	asked := 0
	url := behind(t, store, func() string {
		if asked++; asked == 1 { // it has just been started
			return "not yet"
		}
		return `{"status":"success","data":{"yaml":"global:\n  scrape_interval: 50ms\n"}}`
	})
	remote, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	if remote.Interval() != store.Interval() {
		t.Errorf("interval %v, want %v", remote.Interval(), store.Interval())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		scraped, err := remote.Query(ctx, "count(calls_total)", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if len(scraped) == 1 && scraped[0].F == 2 {
			break
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("nothing was scraped: %v", scraped)
		}
	}
	// In the past nothing changes any more.
	at := time.Now().Add(-time.Millisecond).Truncate(time.Millisecond)
	for _, expr := range []string{"calls_total", "sum(calls_total)", "scalar(sum(calls_total))", "absent_of_all"} {
		want, err := store.Query(ctx, expr, at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Query(ctx, expr, at)
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %v, %v, want %v", expr, got, err, want)
			continue
		}
		for i := range got {
			if got[i].F != want[i].F || got[i].Metric.String() != want[i].Metric.String() {
				t.Errorf("%s: %v, want %v", expr, got, want)
			}
		}
	}
	want, err := store.Samples(ctx, "calls_total", time.Minute, at)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := remote.Samples(ctx, "calls_total", time.Minute, at); err != nil || len(want) != 2 || !reflect.DeepEqual(got.String(), want.String()) {
		t.Errorf("samples %v, %v, want %v", got, err, want)
	}
	if want, err = store.QueryRange(ctx, "sum by (callee) (calls_total)", at.Add(-100*time.Millisecond), at, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	got, err := remote.QueryRange(ctx, "sum by (callee) (calls_total)", at.Add(-100*time.Millisecond), at, 10*time.Millisecond)
	if err != nil || got.String() != want.String() {
		t.Errorf("series %v, %v, want %v", got, err, want)
	}
	for name, ask := range map[string]func() error{
		"a query that does not parse": func() error { _, err := remote.Query(ctx, "rate(x[", at); return err },
		"series at one time":          func() error { _, err := remote.Query(ctx, "calls_total[1m]", at); return err },
		"a value where series are":    func() error { _, err := remote.Samples(ctx, "calls_total offset", time.Minute, at); return err },
	} {
		if err := ask(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestConfigurationsWithoutAnIntervalAreErrors(t *testing.T) {
	for _, text := range []string{"", "global: {}", "global: {scrape_interval: 0s}", "global: {scrape_interval: often}", "["} {
		if got, err := scrapeInterval(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if got, err := scrapeInterval("global: {scrape_interval: 1m30s}\nrule_files: [x]"); err != nil || got != 90*time.Second {
		t.Errorf("%v, %v, want 90 s", got, err)
	}
}

// Whoever never answers is given up when nobody waits any more.
func TestAPrometheusThatDoesNotAnswer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, "http://127.0.0.1:1"); err == nil {
		t.Error("a Prometheus that is not there is opened")
	}
}

package metrics

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// victimDir is the variable that turns the test binary into a lab that will be
// killed: the directory of its store.
const victimDir = "SPILLWAY_TEST_VICTIM_DIR"

// victim scrapes something that counts the scrapes, and prints what is stored.
func victim(dir string) {
	scrapes := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		scrapes++ // one target, so one scrape at a time
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "# TYPE scrapes_total counter\nscrapes_total %d\n", scrapes)
	}))
	s, err := Open(context.Background(), Config{Dir: dir, ScrapeInterval: quick})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.SetTargets([]Target{{Address: server.Listener.Addr().String()}})
	for range time.Tick(quick) {
		vector, err := s.Query(context.Background(), "scrapes_total", time.Now())
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for _, sample := range vector {
			fmt.Println(sample.F)
		}
	}
}

func TestAKilledRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	lab := exec.Command(self)
	lab.Env = append(os.Environ(), victimDir+"="+dir)
	out, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var stored float64
	for stored < 5 && lines.Scan() {
		if _, err := fmt.Sscan(lines.Text(), &stored); err != nil {
			t.Fatalf("the lab says %q", lines.Text())
		}
	}
	// Read while it runs, then when it was killed in the middle of its work.
	living := finished(t, dir)
	if got := last(t, living, "scrapes_total"); got < stored {
		t.Errorf("while it runs: %v scrapes are kept, want %v or more", got, stored)
	}
	if err := lab.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = lab.Wait() // killed: that is its status
	dead := finished(t, dir)
	got := last(t, dead, "scrapes_total")
	if got < stored {
		t.Errorf("%v scrapes are kept, want %v or more", got, stored)
	}
	// A store that is opened again goes on where it stopped.
	open(t, Config{Dir: dir})
}

func TestARecordTornByTheEnd(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	r := newReplica(t)
	s.SetTargets([]Target{r.target("one")})
	becomes(t, s, `count_over_time(calls_total[1m]) > bool 5`, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(dir, "wal", "00000000")
	before, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	used := len(strings.TrimRight(string(before), "\x00"))
	torn := before[:used-7]
	if err := os.WriteFile(segment, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	f := finished(t, dir)
	if got := last(t, f, `count_over_time(calls_total[1m])`); got < 4 {
		t.Errorf("%v samples are left, want all but the last", got)
	}
	if after, err := os.ReadFile(segment); err != nil || string(after) != string(torn) {
		t.Errorf("the finished run was changed (%v)", err)
	}
}

func TestOpenFinished(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	r := newReplica(t)
	r.calls.Add(9)
	begin := time.Now().Add(-time.Second)
	s.SetTargets([]Target{r.target("one")})
	becomes(t, s, `calls_total`, 9)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f := finished(t, dir)
	first, end := f.Span()
	if first.Before(begin.Add(-time.Second)) || end.Before(first) || end.After(time.Now()) {
		t.Errorf("series span %v to %v, begun at %v", first, end, begin)
	}
	vector, err := f.Query(t.Context(), `calls_total{pod="one"}`, end)
	if err != nil || len(vector) != 1 || vector[0].F != 9 {
		t.Errorf("got %v, %v", vector, err)
	}
	matrix, err := f.QueryRange(t.Context(), `calls_total`, begin, end, quick)
	if err != nil || len(matrix) != 1 {
		t.Errorf("got %v, %v", matrix, err)
	}
}

func TestOpenFinishedRefuses(t *testing.T) {
	empty := t.TempDir()
	if _, err := OpenFinished(empty); err == nil || !strings.Contains(err.Error(), empty+" holds no series") {
		t.Errorf("an empty directory: %v", err)
	}
}

// finished opens a run's series for the time of the test.
func finished(t *testing.T, dir string) *Finished {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	f, err := OpenFinished(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
			t.Errorf("%d copies are left, %v", len(left), err)
		}
	})
	return f
}

// last is the newest value of an expression.
func last(t *testing.T, f *Finished, expr string) float64 {
	t.Helper()
	_, end := f.Span()
	vector, err := f.Query(t.Context(), expr, end)
	if err != nil {
		t.Fatal(err)
	}
	if len(vector) != 1 {
		t.Fatalf("%s at the end is %v, want one value", expr, vector)
	}
	return vector[0].F
}

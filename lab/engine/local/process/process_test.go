package process

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type output struct {
	mu   sync.Mutex
	text strings.Builder
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

func newSpawner(t *testing.T) (*Spawner, *Ledger) {
	t.Helper()
	ledger, left, err := OpenLedger(filepath.Join(t.TempDir(), "processes.json"))
	if err != nil || len(left) != 0 {
		t.Fatalf("a new ledger: %v, %v", left, err)
	}
	s := NewSpawner(ledger, false)
	t.Cleanup(s.Close)
	return s, ledger
}

func TestProcess(t *testing.T) {
	s, ledger := newSpawner(t)
	var out output
	p, err := s.Start(Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "echo $X; pwd; exit 3"}, Env: []string{"X=hello"}, Dir: "/", Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Ended() != "exit code 3" || out.String() != "hello\n/\n" {
		t.Errorf("%s, output %q", p.Ended(), out.String())
	}
	if err := ledger.Remove(); err != nil {
		t.Errorf("the ledger of an ended process: %v", err)
	}
}

// TestProcessesOfOneThatYields looks at the class in which the system runs them:
// on Linux, from their first instruction on.
func TestProcessesOfOneThatYields(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // elsewhere a child yields a moment after its start
	}
	plain, ledger := newSpawner(t)
	yielding := NewSpawner(ledger, true)
	t.Cleanup(yielding.Close)
	policy := func(s *Spawner) string {
		t.Helper()
		var out output
		// The 41st field of proc_pid_stat(5) is the scheduling policy.
		p, err := s.Start(Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "cut -d ' ' -f 41 /proc/self/stat"}, Env: os.Environ(), Output: &out})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		return strings.TrimSpace(out.String())
	}
	before := policy(plain)
	if got, want := policy(yielding), "5"; got != want { // SCHED_IDLE, sched(7)
		t.Errorf("policy %q, want %s", got, want)
	}
	if got := policy(plain); got != before {
		t.Errorf("policy of another spawner %q, want %q", got, before)
	}
}

func TestPausedProcess(t *testing.T) {
	s, _ := newSpawner(t)
	var out output
	p, err := s.Start(Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"}, Env: os.Environ(), Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return strings.HasSuffix(out.String(), "ready\n") })
	p.Pause()
	p.Terminate() // it hears of it when it goes on
	p.Resume()
	<-p.Done()
	if p.Ended() != "exit code 5" {
		t.Errorf("ended with %s", p.Ended())
	}
	p.Pause() // nobody is there
	p.Resume()
}

func TestProcessGroupEndsWithItsLeader(t *testing.T) {
	s, _ := newSpawner(t)
	var out output
	p, err := s.Start(Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "sleep 600 & echo $!; wait"}, Env: os.Environ(), Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return strings.HasSuffix(out.String(), "\n") })
	var child int
	if err := json.Unmarshal([]byte(out.String()), &child); err != nil {
		t.Fatal(err)
	}
	p.Terminate()
	<-p.Done()
	if p.Ended() != "signal: terminated" {
		t.Errorf("ended with %s", p.Ended())
	}
	until(t, func() bool { _, _, err := identify(child); return err != nil })
}

func TestLedgerEndsLeftovers(t *testing.T) {
	// What an engine before would have started: not by a spawner, which would
	// not let it be left.
	start := func() *exec.Cmd {
		cmd := exec.Command("/bin/sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	left, stranger, gone := start(), start(), start()
	path := filepath.Join(t.TempDir(), "processes.json")
	before, _, err := OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, cmd := range map[string]*exec.Cmd{"left": left, "stranger": stranger, "gone": gone} {
		if err := before.add(name, cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	// The stranger has the process id of one that was ours, not its start time.
	e := before.runs[stranger.Process.Pid]
	e.Start += "1"
	before.runs[stranger.Process.Pid] = e
	if err := before.save(); err != nil {
		t.Fatal(err)
	}
	_ = gone.Process.Kill()
	_ = gone.Wait()

	_, found, err := OpenLedger(path)
	if err != nil || len(found) != 3 {
		t.Fatalf("found %v, %v", found, err)
	}
	for _, f := range found {
		if f.Ended != (f.Name == "left") {
			t.Errorf("%s (pid %d) ended: %v", f.Name, f.PID, f.Ended)
		}
	}
	if err := left.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("what was left: %v", err)
	}
	if _, _, err := identify(stranger.Process.Pid); err != nil {
		t.Errorf("the stranger is gone: %v", err)
	}
	if _, again, err := OpenLedger(path); err != nil || len(again) != 0 {
		t.Errorf("a second look finds %v, %v", again, err)
	}
}

func TestLedgerThatIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "processes.json")
	if err := os.WriteFile(path, []byte("what?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenLedger(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}

func until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

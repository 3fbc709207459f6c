package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
)

// entry is one process that was started.
type entry struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start string `json:"start"`
	Exe   string `json:"exe"`
}

// Ledger is the file that says which processes run. Safe for concurrent use.
type Ledger struct {
	path string

	mu   sync.Mutex
	runs map[int]entry
}

// Leftover is a process that an engine before this one had started.
type Leftover struct {
	Name string
	PID  int
	// Ended is whether it still ran and was killed now; otherwise it had ended
	// already.
	Ended bool
}

// OpenLedger reads the ledger at path, kills what still runs of it, and begins a
// new one. A process is only touched when its id, start time and program are the
// ones written down. The caller must be the only engine of its state directory.
func OpenLedger(path string) (*Ledger, []Leftover, error) {
	l := &Ledger{path: path, runs: map[int]entry{}}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read what an engine before left: %w", err)
	}
	var entries []entry
	if err == nil {
		if err := json.Unmarshal(text, &entries); err != nil {
			return nil, nil, fmt.Errorf("%s is not what an engine writes (%w); end its processes by hand and remove it", path, err)
		}
	}
	var left []Leftover
	for _, e := range entries {
		ended, err := end(e)
		if err != nil {
			return nil, nil, fmt.Errorf("end %s (pid %d), which an engine before left: %w", e.Name, e.PID, err)
		}
		left = append(left, Leftover{Name: e.Name, PID: e.PID, Ended: ended})
	}
	return l, left, l.save()
}

// end kills the process of an entry if that is still the one that runs.
func end(e entry) (bool, error) {
	// First the handle, then the check: on Linux the handle cannot come to mean
	// another process in between.
	process, err := os.FindProcess(e.PID)
	if err != nil {
		return false, nil
	}
	defer process.Release()
	start, exe, err := identify(e.PID)
	if err != nil || start != e.Start || exe != e.Exe {
		return false, nil
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, err
	}
	return true, nil
}

func (l *Ledger) add(name string, pid int) error {
	start, exe, err := identify(pid)
	if err != nil {
		return nil // gone already
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs[pid] = entry{Name: name, PID: pid, Start: start, Exe: exe}
	return l.save()
}

func (l *Ledger) remove(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.runs, pid)
	// A stale line is harmless: start time and program are checked.
	_ = l.save()
}

// Remove deletes the ledger when nothing runs any more.
func (l *Ledger) Remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.runs) > 0 {
		return fmt.Errorf("%d processes still run", len(l.runs))
	}
	return os.Remove(l.path)
}

func (l *Ledger) save() error {
	runs := slices.SortedFunc(maps.Values(l.runs), func(a, b entry) int { return a.PID - b.PID })
	text, err := json.Marshal(runs)
	if err != nil {
		return fmt.Errorf("encode the list of processes: %w", err)
	}
	next := l.path + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, l.path)
}

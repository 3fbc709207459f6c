package local

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"spillway.dev/lab/engine/client"
	"spillway.dev/lab/engine/local/process"
	"spillway.dev/platform/filelock"
)

// longestSocket is what fits sun_path on every system, with its zero byte.
const longestSocket = 103

// ledgerFile says which processes run.
const ledgerFile = "processes.json"

// stateDir is the directory that one engine at a time owns.
type stateDir struct {
	path string
	lock *os.File
}

// claim makes the directory and locks it for this process.
func claim(path string) (*stateDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	name := filepath.Join(path, "lock")
	lock, err := filelock.Take(name)
	if errors.Is(err, filelock.ErrHeld) {
		holder := "another process"
		if text, err := os.ReadFile(name); err == nil && len(text) > 0 {
			holder = "pid " + strings.TrimSpace(string(text))
		}
		return nil, fmt.Errorf("a mesh is running in %s already (%s): stop it with `spillway down`, or give this one a state directory of its own", path, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := lock.Truncate(0); err == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &stateDir{path: path, lock: lock}, nil
}

// Clean ends what an engine that was killed has left running, and removes its
// state directory with all that it kept. It names those that it ended. A directory
// of a mesh that runs is an error; one that is not there is clean.
func Clean(path string) (ended []string, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	dir, err := claim(path)
	if err != nil {
		return nil, err
	}
	_, left, err := process.OpenLedger(filepath.Join(dir.path, ledgerFile))
	if err != nil {
		return nil, errors.Join(err, dir.release())
	}
	for _, l := range left {
		if l.Ended {
			ended = append(ended, fmt.Sprintf("%s (pid %d)", l.Name, l.PID))
		}
	}
	if socket, err := dir.socket(); err == nil {
		_ = os.Remove(socket) // it may lie elsewhere
	}
	return ended, errors.Join(os.RemoveAll(dir.path), dir.release())
}

// release lets the next engine have the directory.
func (d *stateDir) release() error { return d.lock.Close() }

// sub makes a directory below the state directory.
func (d *stateDir) sub(names ...string) (string, error) {
	path := filepath.Join(append([]string{d.path}, names...)...)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("make room in the state directory: %w", err)
	}
	return path, nil
}

// socket is where the engine listens. A state directory may be too deep for the
// path of a socket; then it lies in the user's temporary directory.
func (d *stateDir) socket() (string, error) {
	path := filepath.Join(d.path, "engine.sock")
	if len(path) <= longestSocket {
		return path, nil
	}
	dir := filepath.Join(os.TempDir(), "spillway-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make room for the engine's socket: %w", err)
	}
	// Somebody else may have made it first: then it is theirs to listen in.
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("make room for the engine's socket: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(dir, &stat); err != nil || !info.IsDir() || int(stat.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s is not a private directory of this user; remove it, or choose a state directory with a shorter path", dir)
	}
	sum := sha256.Sum256([]byte(d.path))
	return filepath.Join(dir, hex.EncodeToString(sum[:8])+".sock"), nil
}

// announce writes down where the engine is reached.
func (d *stateDir) announce(socket string, started time.Time) error {
	text, err := json.Marshal(client.Address{PID: os.Getpid(), Socket: socket, StartedAt: started.UTC()})
	if err != nil {
		return fmt.Errorf("encode where the engine is: %w", err)
	}
	return writeFile(filepath.Join(d.path, client.File), append(text, '\n'))
}

// retract takes the announcement back.
func (d *stateDir) retract(socket string) {
	_ = os.Remove(filepath.Join(d.path, client.File))
	_ = os.Remove(socket)
}

// writeFile writes a file that nobody sees half-written.
func writeFile(path string, text []byte) error {
	next := path + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

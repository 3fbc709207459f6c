//go:build e2e

package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A release is unpacked on a machine that has no Go: the mesh comes up out of the
// folder, sells a ticket, and leaves nothing running.
func TestReleaseArchive(t *testing.T) {
	where := t.TempDir()
	build := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "release-archive"), runtime.GOOS, runtime.GOARCH, where)
	build.Env = append(os.Environ(), "VERSION=0.0.0")
	build.Stderr = os.Stderr
	printed, err := build.Output()
	if err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	archive := strings.TrimSpace(string(printed))
	if out, err := exec.Command("tar", "-xzf", archive, "-C", empty).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(archive); err == nil {
		t.Logf("%s: %d MiB", filepath.Base(archive), info.Size()>>20)
	}
	dir := filepath.Join(empty, strings.TrimSuffix(filepath.Base(archive), ".tar.gz"))
	sources := 0
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".go") {
			sources++
		}
		return err
	})
	if err != nil || sources > 0 {
		t.Errorf("%v, %d Go files in the archive", err, sources)
	}

	// Nothing but what the archive holds, and redis-server where there is one.
	path := t.TempDir()
	if found, err := exec.LookPath("redis-server"); err == nil {
		if err := os.Symlink(found, filepath.Join(path, "redis-server")); err != nil {
			t.Fatal(err)
		}
	}
	m := &mesh{
		t: t, dir: filepath.Join(empty, "state"), binary: filepath.Join(dir, "bin", "spillway"), folder: empty,
		env: []string{"PATH=" + path, "HOME=" + empty},
	}
	m.start()
	buyTicket(t, m)
	replicas := m.pids()
	if code := m.cli(nil, "down"); code != 0 {
		t.Errorf("`spillway down`: exit code %d", code)
	}
	m.ended()
	if code := m.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("`spillway up` ended with exit code %d", code)
	}
	for _, pid := range replicas {
		if alive(pid) {
			t.Errorf("process %d outlives the mesh", pid)
		}
	}
}

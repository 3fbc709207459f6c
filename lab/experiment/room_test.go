package experiment

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Who saves a manifest while an experiment runs changes nothing of it.
func TestManifestsStayAsTheyAre(t *testing.T) {
	root := t.TempDir()
	write(t, "replicas: 2", root, "k8s", "base", "order.yaml")
	write(t, "program", root, "bin", "order")
	kept, release, err := still(root)
	if err != nil {
		t.Fatal(err)
	}
	write(t, "replicas: 9", root, "k8s", "base", "order.yaml")
	write(t, "new", root, "k8s", "base", "new.yaml")
	if got := read(t, kept, "k8s", "base", "order.yaml"); got != "replicas: 2" {
		t.Errorf("the manifest became %q", got)
	}
	if _, err := os.Stat(filepath.Join(kept, "k8s", "base", "new.yaml")); err == nil {
		t.Error("a new manifest appeared")
	}
	if got := read(t, kept, "bin", "order"); got != "program" {
		t.Errorf("the program is %q", got)
	}
	release()
	if _, err := os.Stat(kept); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	if got := read(t, root, "bin", "order"); got != "program" {
		t.Errorf("the root's own program is %q", got)
	}
	if _, _, err := still(t.TempDir()); err == nil {
		t.Error("a root without manifests is taken")
	}
}

// What a killed experiment left of any variant is cleared away; the series of a
// run that ended stay.
func TestCleanAfterOneThatWasKilled(t *testing.T) {
	dir := t.TempDir()
	if err := clean(Options{Dir: dir}); err != nil {
		t.Fatalf("nothing is there: %v", err)
	}
	write(t, "[]", dir, "runs", "killed-1", "state", "processes.json")
	write(t, "order", dir, "runs", "killed-1", "state", "pods", "order-1", "log")
	write(t, "samples", dir, "runs", "ended-1", "metrics", "wal")
	if err := clean(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "runs", "*", "state")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if got := read(t, dir, "runs", "ended-1", "metrics", "wal"); got != "samples" {
		t.Errorf("the series: %q", got)
	}
}

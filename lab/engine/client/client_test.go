package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDialWhenNothingRuns(t *testing.T) {
	empty := t.TempDir()
	killed := t.TempDir()
	text := `{"pid":1,"socket":"` + filepath.Join(killed, "engine.sock") + `"}`
	if err := os.WriteFile(filepath.Join(killed, File), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{empty, killed, filepath.Join(empty, "none")} {
		_, _, err := Dial(dir)
		want := "no mesh is running in " + dir + ": start one with `make up`, or name the state directory of one that runs with --dir"
		if !errors.Is(err, ErrNotRunning) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestDialWithAFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"what?", "{}"} {
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Dial(dir); err == nil || errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), File) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

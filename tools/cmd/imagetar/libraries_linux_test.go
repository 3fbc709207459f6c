package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the dynamic loader itself lists is found, and nothing is missing.
func TestLibrariesAreAllThatAProgramNeeds(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	needed, err := needs([]file{{to: "/bash", from: shell}})
	if err != nil {
		t.Fatal(err)
	}
	listed, err := exec.Command("ldd", shell).Output()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, library := range needed {
		if _, err := os.Stat(library.from); err != nil {
			t.Error(err)
		}
		have[filepath.Base(library.to)] = true
	}
	for line := range strings.Lines(string(listed)) {
		name := filepath.Base(strings.Fields(line)[0])
		if !have[name] && !strings.HasPrefix(name, "linux-vdso") {
			t.Errorf("ldd lists %s, needs does not: %v", name, needed)
		}
	}
	if len(needed) == 0 {
		t.Error("bash needs no library?")
	}
}

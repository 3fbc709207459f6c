//go:build release

// Compiling for two processors takes minutes; it is for a release, not for every
// change.

package test

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// One service, compiled from two directories: the same bytes, static, for either
// processor.
func TestABinaryIsStaticAndReproducible(t *testing.T) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for arch, machine := range machines {
		var binaries [2][]byte
		for i, dir := range []string{repository, copyOfSources(t)} {
			file := filepath.Join(t.TempDir(), "bank")
			if out, err := exec.Command(filepath.Join(dir, "scripts", "image-binary"), "bank", arch, file).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var err error
			if binaries[i], err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(binaries[0], binaries[1]) {
			t.Errorf("%s: another directory gives another binary", arch)
		}
		file, err := elf.NewFile(bytes.NewReader(binaries[0]))
		if err != nil {
			t.Fatal(err)
		}
		if file.Machine != machine {
			t.Errorf("%s: the binary is for %s", arch, file.Machine)
		}
		libraries, err := file.ImportedLibraries()
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			t.Fatal(err)
		}
		if len(libraries) > 0 || slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s: needs %v: not static", arch, libraries)
		}
		if file.Section(".debug_info") != nil || file.Section(".symtab") != nil {
			t.Errorf("%s: is not stripped", arch)
		}
	}
}

// copyOfSources is what one service is made of, elsewhere.
func copyOfSources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range []string{"go.work", "go.work.sum", "lab", "platform", "proto", "services", "scripts"} {
		if out, err := exec.Command("cp", "-R", filepath.Join(repository, path), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return dir
}

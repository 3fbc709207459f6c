package local

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway.dev/lab/engine/client"
	"spillway.dev/lab/engine/local/process"
)

func TestDeepStateDirectory(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30), "state")
	b := start(t, newRoot(t), deep)
	address, err := client.Read(deep)
	if err != nil || len(address.Socket) > longestSocket || strings.HasPrefix(address.Socket, deep) {
		t.Fatalf("%+v, %v", address, err)
	}
	if info, err := os.Stat(filepath.Dir(address.Socket)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory of the socket: %v, %v", info, err)
	}
	b.more(10)
}

// What an engine that was killed left is ended and removed; what runs is left
// alone.
func TestClean(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if ended, err := Clean(dir); err != nil || len(ended) > 0 {
		t.Fatalf("nothing is there: %v, %v", ended, err)
	}
	claimed, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Clean(dir); err == nil || !strings.Contains(err.Error(), "spillway down") {
		t.Errorf("a mesh that runs: %v", err)
	}
	if err := claimed.release(); err != nil {
		t.Fatal(err)
	}
	// The spawner goes on writing to its own; what is left is a copy.
	own := filepath.Join(t.TempDir(), ledgerFile)
	ledger, _, err := process.OpenLedger(own)
	if err != nil {
		t.Fatal(err)
	}
	spawner := process.NewSpawner(ledger, false)
	defer spawner.Close()
	outlived, err := spawner.Start(process.Spec{Name: "order-1", Path: "/bin/sleep", Args: []string{"600"}, Output: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, ledgerFile), text); err != nil {
		t.Fatal(err)
	}
	ended, err := Clean(dir)
	if err != nil || len(ended) != 1 || !strings.Contains(ended[0], "order-1") {
		t.Errorf("ended %q, %v", ended, err)
	}
	<-outlived.Done()
	if got := outlived.Ended(); got != "signal: killed" {
		t.Errorf("what outlived its engine: %s", got)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

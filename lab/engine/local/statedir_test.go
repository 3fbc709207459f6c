package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway.dev/lab/engine/client"
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

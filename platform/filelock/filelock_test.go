package filelock

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestTake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(path); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), path) {
		t.Errorf("a lock that is held: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if _, err := Take(filepath.Join(path, "below", "a", "file")); err == nil || errors.Is(err, ErrHeld) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a place where no file can be: %v", err)
	}
}

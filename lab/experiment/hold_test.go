package experiment

import (
	"strings"
	"testing"
)

func TestTwoRunsIntoOneDirectory(t *testing.T) {
	dir := t.TempDir()
	release, err := hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold(dir); err == nil || !strings.Contains(err.Error(), "--out") {
		t.Errorf("a second run: %v; it should name the remedy", err)
	}
	release()
	again, err := hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

package rig

import (
	"path/filepath"
	"slices"
	"testing"
)

// A mesh that stays evaluates every rule that a cluster loads, an experiment those
// that can say something within minutes.
func TestRuleFiles(t *testing.T) {
	const root = "../.."
	there, err := filepath.Glob(filepath.Join(root, "k8s/observability/prometheus/rules/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(ruleFiles(root, ""))); !slices.Equal(got, there) {
		t.Errorf("a mesh that stays evaluates %v, a cluster %v", got, there)
	}
	want := slices.DeleteFunc(there, func(file string) bool { return filepath.Base(file) == "slo.yaml" })
	if got := slices.Sorted(slices.Values(ruleFiles(root, t.TempDir()))); !slices.Equal(got, want) {
		t.Errorf("an experiment evaluates %v, want %v", got, want)
	}
}

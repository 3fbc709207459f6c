package e2e

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"spillway.dev/lab/engine/kube"
	incluster "spillway.dev/lab/experiment/cluster"
	"spillway.dev/lab/scenario"
)

// limits is a scenario, limitsInCluster what the tests of a cluster run in its
// place, both as seen from the tree's root. In the latter payment goes from
// limitBefore replicas to limitAfter and keeps to limitTogether charges a second, by
// shares.
const (
	limits          = "scenarios/limit-multiplies.yaml"
	limitsInCluster = "lab/e2e/testdata/cluster-limit-multiplies.yaml"
	limitBefore     = 2
	limitAfter      = 6
	limitTogether   = 8
)

// fromHere leads to the tree's root.
const fromHere = "../.."

// A file that a cluster is to run is read and rendered without one: a mistake in it
// must not wait for a cluster to be found.
func TestFilesOfTheseTestsAreWhole(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	engine := incluster.Engine{Config: kube.Config{Namespace: "spillway"}, Overlay: "ci"}
	for _, file := range files {
		s, err := scenario.Load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := engine.Check(s, fromHere); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// What is short for a cluster's sake asks what the scenario asks, of a bank with the
// same quota and with the same knobs; only their values differ.
func TestTheShortLimitAsksTheSame(t *testing.T) {
	long, err := scenario.Load(filepath.Join(fromHere, limits))
	if err != nil {
		t.Fatal(err)
	}
	short, err := scenario.Load(filepath.Join(fromHere, limitsInCluster))
	if err != nil {
		t.Fatal(err)
	}
	if short.Question != long.Question {
		t.Errorf("it asks %q, the scenario %q", short.Question, long.Question)
	}
	if len(short.Scale) != 1 || short.Scale[0].Service != long.Scale[0].Service || short.Scale[0].Replicas != limitAfter {
		t.Errorf("it scales %+v", short.Scale)
	}
	for _, v := range short.Variants {
		i := slices.IndexFunc(long.Variants, func(l scenario.Variant) bool { return l.Name == v.Name })
		if i < 0 {
			t.Errorf("the scenario has no variant %s", v.Name)
			continue
		}
		same := long.Variants[i]
		if !maps.Equal(v.Knobs["bank"], same.Knobs["bank"]) {
			t.Errorf("%s: the bank has %v, in the scenario %v", v.Name, v.Knobs["bank"], same.Knobs["bank"])
		}
		mine, theirs := v.Knobs["payment"], same.Knobs["payment"]
		if got, want := slices.Sorted(maps.Keys(mine)), slices.Sorted(maps.Keys(theirs)); !slices.Equal(got, want) || mine["pacing.mode"] != theirs["pacing.mode"] {
			t.Errorf("%s: payment has %v, in the scenario %v", v.Name, mine, theirs)
		}
		each := limitTogether
		if mine["pacing.mode"] == "replica" {
			each /= limitBefore
		}
		if got := mine["pacing.bank.per_second"]; got != strconv.Itoa(each) {
			t.Errorf("%s: payment keeps to %s a second, want %d", v.Name, got, each)
		}
	}
}

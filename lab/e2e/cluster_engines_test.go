//go:build cluster

package e2e

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"spillway.dev/lab/measure"
	"spillway.dev/lab/report"
)

// bothEngines is what they run.
const bothEngines = "lab/e2e/testdata/two-engines.yaml"

// oneLook is how often an HPA controller looks, in seconds: 15 by default, in
// Kubernetes and here. What one engine decides at a look, the other may decide at
// its next one, or at one in between where a cluster's looks more often.
const oneLook = 15.0

// sameOnBothEngines runs a scenario in the cluster and then, with the same seed, as
// processes beside it, in real time. Every 15 s of the scenario each service that
// scales has as many ready replicas with one engine as with the other, give or take
// one replica, or one look of the autoscaler; and goodput differs by 10 % at most.
func sameOnBothEngines(c *cluster) {
	there, here := c.TempDir(), c.TempDir()
	c.cli("run", bothEngines, "--overlay", "ci", "--seed", "1", "--out", there)
	// The machine is now the other one's alone.
	if _, code := c.cli("down"); code != 0 {
		c.Errorf("spillway down: exit code %d", code)
	}
	c.runHere("run", bothEngines, "--timelapse", "1", "--seed", "1", "--out", here)

	kube, local := c.onlyVariant(there), c.onlyVariant(here)
	a, b := kube.Measures["goodput_ratio"].Median, local.Measures["goodput_ratio"].Median
	c.Logf("goodput: %.3f in the cluster, %.3f as processes; offered %.2f and %.2f/s; p99 %.0f and %.0f ms; %v and %v replica-seconds", a, b,
		kube.Measures["offered_per_s"].Median, local.Measures["offered_per_s"].Median,
		kube.Measures["p99_ms"].Median, local.Measures["p99_ms"].Median,
		math.Round(kube.Measures["replica_seconds"].Median), math.Round(local.Measures["replica_seconds"].Median))
	if !(math.Abs(a-b) <= 0.1*max(a, b)) || a == 0 {
		c.Errorf("goodput is %.3f in the cluster and %.3f as processes: more than 10 %% apart", a, b)
	}
	if a, b := kube.Measures["offered_per_s"].Median, local.Measures["offered_per_s"].Median; a != b {
		c.Errorf("one seed offered %v/s in the cluster and %v/s as processes", a, b)
	}
	grew := 0
	for _, s := range kube.Recording.Services {
		i := slices.IndexFunc(local.Recording.Services, func(o measure.Service) bool { return o.Name == s.Name })
		if i < 0 {
			c.Errorf("%s is in the cluster alone", s.Name)
			continue
		}
		if !s.Scaled {
			continue
		}
		other := local.Recording.Services[i]
		if highest(s.Ready) > s.Ready[0].V && highest(other.Ready) > other.Ready[0].V {
			grew++
		}
		for t := 0.0; t <= kube.Recording.Duration; t += oneLook {
			if !withinOneStep(s.Ready, other.Ready, t) {
				c.Errorf("%s, %.0f s: %v ready in the cluster, %v as processes", s.Name, t, at(s.Ready, t), at(other.Ready, t))
			}
		}
		c.Logf("%s: ready in the cluster %v, as processes %v", s.Name, sampled(s.Ready, kube.Recording.Duration), sampled(other.Ready, kube.Recording.Duration))
	}
	if grew < 2 {
		c.Errorf("%d services grew with both engines: nothing was compared", grew)
	}
}

// withinOneStep tells whether two series of replicas agree at a time: at most one
// apart, or the same as the other was or will be one look before or after.
func withinOneStep(a, b measure.Series, t float64) bool {
	if math.Abs(at(a, t)-at(b, t)) <= 1 {
		return true
	}
	for off := -oneLook; off <= oneLook; off++ {
		if at(a, t) == at(b, t+off) || at(b, t) == at(a, t+off) {
			return true
		}
	}
	return false
}

// at is the value that holds at a time; the first one stands for the time before.
func at(s measure.Series, t float64) float64 {
	v := s[0].V
	for _, p := range s {
		if p.T > t {
			break
		}
		v = p.V
	}
	return v
}

func highest(s measure.Series) float64 {
	return slices.MaxFunc(s, func(a, b measure.Point) int { return int(a.V - b.V) }).V
}

func sampled(s measure.Series, duration float64) (out []float64) {
	for t := 0.0; t <= duration; t += oneLook {
		out = append(out, at(s, t))
	}
	return out
}

// onlyVariant reads the report of a scenario of one variant. That a busy machine
// made it not valid is told.
func (c *cluster) onlyVariant(dir string) report.Variant {
	c.Helper()
	result, err := report.Read(dir)
	if err != nil {
		c.Fatal(err)
	}
	if len(result.Variants) != 1 {
		c.Fatalf("%d variants, not one", len(result.Variants))
	}
	for _, why := range result.Invalid {
		c.Logf("%s: not valid: %s", result.Command, why)
	}
	return result.Variants[0]
}

// runHere runs a command of spillway with the local engine, on the binaries that
// the images hold.
func (c *cluster) runHere(args ...string) {
	c.Helper()
	root := c.TempDir()
	for name, of := range map[string]string{"k8s": "k8s", "bin": "bin/cluster"} {
		path, err := filepath.Abs(filepath.Join(tree, of))
		if err != nil {
			c.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(root, name)); err != nil {
			c.Fatal(err)
		}
	}
	path, err := filepath.Abs(spillway)
	if err != nil {
		c.Fatal(err)
	}
	cmd := exec.CommandContext(c.Context(), path, append(args, "--root", root)...)
	cmd.Dir = tree
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil { // its report tells whether it is of use
		c.Logf("spillway %v: %v\n%s", args, err, &said)
	}
}

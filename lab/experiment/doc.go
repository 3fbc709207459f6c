// Package experiment runs the variants of a scenario, each on a fresh mesh, and
// makes a report of what was recorded.
//
// A file reads on from the next: experiment.go (variants and repeats) → trial.go
// (one run of one variant) → mesh.go, local.go (what it runs on) → steps.go (what
// happens when) → generator.go (the load, in a process of its own) → record.go,
// series.go, totals.go (what is kept of it).
package experiment

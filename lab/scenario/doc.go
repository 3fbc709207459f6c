// Package scenario is the file in which a question is put to the mesh: what is
// tried, under which load, what goes wrong meanwhile, and what is expected.
// docs/scenario-file.md explains every key.
//
// A file reads on from the next: scenario.go (what a file says) → file.go (its
// schema) → load.go (reading it) → check.go (what a schema cannot say) →
// services.go (names that only the manifests know) → timelapse.go (how fast it
// may run) → expectation.go and answer.go (what is made of the measures).
package scenario

// Package load puts open-loop load on the gateway of a mesh: people arrive by a
// Poisson process whether or not earlier ones have been served, and latency
// counts from the instant at which a journey was meant to begin. A file reads
// on from the next: config.go → schedule.go → journey.go → run.go → record.go
// → report.go; endpoints.go spreads calls over gateway replicas and lateness.go
// asks the replicas how late they were.
package load

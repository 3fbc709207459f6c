// Package load puts open-loop load on the gateway of a mesh: people arrive by a
// schedule whether or not earlier ones have been served, and latency counts
// from the instant at which a journey was meant to begin. A file reads on from
// the next: plan.go (what to offer) → shape.go → demand.go (expected arrivals
// over time) → schedule.go (who arrives when) → clock.go (to be there on time)
// → run.go → journey.go, seats.go (what a person does) → outcome.go → record.go
// (what came of it, second by second) → report.go. dial.go, endpoints.go and
// http.go reach a gateway; lateness.go asks the replicas how late they were.
package load

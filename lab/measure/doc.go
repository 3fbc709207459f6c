// Package measure turns the recording of a run into figures. Everything in it
// is a pure function: the same recording gives the same figures, on any machine
// and at any time. docs/measures.md explains each figure to its readers.
//
// Two clocks are kept apart. Times and durations are scenario seconds, which a
// time-lapse of N makes pass N times as fast as real ones. Rates are per real
// second, because service times, and so the capacity of a replica, are never
// shortened: a rate in calls per second can be compared with a capacity
// whatever the time-lapse. Latencies and lags are real milliseconds.
//
// A file reads on from the next: recording.go (what is recorded) → keys.go
// (what comes out) → series.go → served.go, pressure.go, recovery.go, cost.go,
// demand.go, elasticity.go, scaling.go (one decision each) → measures.go (all
// of them) → honest.go → summary.go (repeats).
package measure

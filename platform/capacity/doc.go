// Package capacity models what one replica can do: K slots and a distribution of service times, an M/G/K station that
// takes no CPU.
//
// A modelled replica lets a study add real capacity by scaling out on a machine with two cores. It is not a semaphore
// with a sleep: there, every late wake-up delays the next request as well, and at high utilization those delays feed
// the queue. Here a station keeps the times at which its K slots become free. A request starts at
// max(arrival, earliest free), finishes a service time later, and sleeps once, until then. How late the sleep ended
// is measured (lateness) and never enters the queue.
//
// decide.go is the pure model in virtual time; Station is its adapter to the real clock; ErlangC is the theory that
// both are checked against; Validate does so in real time.
package capacity

// Package concurrency limits how many calls a replica has in flight, waiting ones included, and finds the limit itself.
//
// adaptive is failsafe-go's adaptive limiter, which watches how long calls take: it needs to know nothing of the replica,
// and some seconds to learn. aimd watches the wait for a slot, which a replica knows at once, and keeps it near a target
// by additive increase and multiplicative decrease, as Breakwater's server does with its credits (I. Cho et al., "Overload
// Control for µs-scale RPCs with Breakwater", OSDI 2020, 4.2; that this converges and is fair: D. Chiu and R. Jain,
// "Analysis of the Increase and Decrease Algorithms", Computer Networks and ISDN Systems 17, 1989).
//
// Who comes when the limit is reached is refused at once. Less urgent calls may use only a share of it, so that urgent ones
// are refused last.
package concurrency

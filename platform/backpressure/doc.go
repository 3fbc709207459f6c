// Package backpressure tells callers how pressed their callees are, so that the edge of the mesh can turn work away
// before any of it is done.
//
// Every replica measures its own pressure: calls offered to it over those that it can serve, in the last second. It sends
// that, or a higher one that it heard of on the way down, back with each answer, as a trailer. So what arrives at the edge
// with the answer of a route is the pressure on the tightest dependency that the call came to. Package
// platform/inbound/admission makes a decision of it.
//
// The scheme is that of Breakwater (I. Cho et al., "Overload Control for µs-scale RPCs with Breakwater", OSDI 2020), where
// servers tell clients how much they may send, and of TopFull (J. Park et al., "TopFull: An Adaptive Top-Down Overload
// Control for SLO-Oriented Microservices", SIGCOMM 2024), which decides at the entry, by route. What travels is simpler
// than in both: one number, which says by how much too much comes in.
package backpressure

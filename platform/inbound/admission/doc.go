// Package admission turns calls away at the edge, by route, before any work is done for them: as many as the tightest
// dependency of the route cannot serve, the least urgent first.
//
// What it goes by is the pressure that answers bring back (package backpressure). Of a route whose tightest dependency is
// offered 1.5 times what it can serve, two thirds are let in from then on; where there is room, more are let in step by
// step. Work that would be refused three hops further down has then cost nothing but a look at the edge (TopFull, see
// package backpressure).
package admission

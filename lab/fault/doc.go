// Package fault breaks parts of a running mesh on purpose, each at a time and for a time, and mends them.
//
// A Fault says what goes wrong. The Injector keeps those that are in force and recomputes, whenever one begins or ends,
// what all of them together ask of the mesh: latency and errors are injected by callers' clients over xDS, slow-down,
// slow start and the bank's quota are knobs, the rest is done by the engine. So faults may overlap on the same thing,
// and each ends by itself.
package fault

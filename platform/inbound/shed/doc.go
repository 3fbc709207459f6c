// Package shed turns away the least urgent calls of a replica that has more to do than it can.
//
// Overload is told by the wait for a slot, not by the time that calls take: that also grows when a dependency is slow,
// and no call turned away here would help. Whoever's priority (package criticality) is above the admission level is
// refused before anything is done for the call. The level falls while calls wait too long and rises while they do not, by
// the histogram of the priorities that came lately, so that each step moves a known share of the calls. All of it is
// DAGOR's (H. Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018, 4.2), with what a replica
// needs that serves hundreds of calls a second and not ten thousands:
//
//   - a window is as short as it can be and still hold some calls, not 1 s;
//   - how fast the wait grows tells by how much too much is let in, so that a step down is as large as it must be;
//   - while the wait is on its way down the level stays, since what was let in before has yet to be served;
//   - steps up become larger while there is no overload.
//
// level.go is the pure decision, Shedder its adapter to gRPC.
package shed

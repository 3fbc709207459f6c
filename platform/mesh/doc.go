// Package mesh is proxyless gRPC over xDS: the bootstrap that a client is started with, and the control plane that
// tells clients about services and their endpoints.
//
// The control plane serves LDS, RDS, CDS and EDS on one ADS stream from one document, State. Every caller (the part of
// the node id before the slash) has a view of its own, so that configuration can differ between callers. Resources are
// versioned one by one: what did not change is not sent again. Faults are part of a caller's view: its own client delays
// or aborts its calls.
//
// Beside ADS the control plane serves KnobService: the values of State.Knobs, watched by the replicas of each service.
//
// A client must find the whole mesh on its first request, because an absent listener fails every call for it. So
// nothing is served before the first Set; until then connections wait in the listener's backlog.
//
// To survive a crash of the control plane without clients noticing more than a pause in updates, a supervisor holds
// the listening socket and hands it to a child process (Inherit, ServeStdin). Clients that lose the child reconnect to
// the held socket at once and are served as soon as the next child accepts; without it they would back off for up to
// 18 s. Calls go on meanwhile. One limit is known: a call with WaitForReady that began while the control plane was away
// fails when it comes back.
package mesh

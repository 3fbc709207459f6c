// Package health tells the world in what part of its life a replica is: a small state machine, served as
// grpc.health.v1.
//
// Names that can be asked for (the `service:` field of a Kubernetes gRPC probe):
//
//	""            ready for calls: SERVING in state serving only      (readiness probe)
//	"liveness"    SERVING from the first answer to the last           (liveness probe)
//	"startup"     SERVING once start and warm-up are over, for good   (startup probe)
//	each service  like ""
//
// Liveness depends on nothing: a process that answers is alive, and restarting it because Redis is away would help nobody.
// Readiness does not cascade either: a replica whose dependency is away goes on serving and answers what it can with a
// typed error, else one lost store would take every replica of every caller out of the mesh at once. Who wants to see
// that happen lets it be doubted (Doubt; boot's knob health.readiness).
package health

import "fmt"

// State is a part of a replica's life. States are passed in order and never again.
type State int

// The states of a replica.
const (
	// Starting: dependencies are being connected.
	Starting State = iota
	// Warming: caches and connections are being filled.
	Warming
	// Serving: calls are welcome.
	Serving
	// Draining: no new calls; those under way finish.
	Draining
)

// String gives the state's lower-case name.
func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Warming:
		return "warming"
	case Serving:
		return "serving"
	case Draining:
		return "draining"
	}
	return fmt.Sprintf("state(%d)", int(s))
}

// next decides whether a replica may go from one state to another: one step forward, or to draining from anywhere.
func next(from, to State) error {
	if to == from+1 && to <= Draining || to == Draining && from < Draining {
		return nil
	}
	return fmt.Errorf("a replica cannot go from %s to %s", from, to)
}

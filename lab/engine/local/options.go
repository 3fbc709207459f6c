package local

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/nodepool"
	"spillway.dev/lab/trace"
)

// overlay is what the engine runs when Options.Overlay is empty.
const overlay = "overlays/local"

// Options is what Up needs to know.
type Options struct {
	// Root holds k8s/ and bin/: a clone of the repository, or a release.
	Root string
	// StateDir is where everything that the engine writes goes. It is made.
	StateDir string
	Log      *slog.Logger
	// Progress is called with every event, one at a time, in order. It may be
	// nil. It must not call the engine's Down.
	Progress func(Event)
	// Traces keeps the spans that the services send.
	Traces *trace.Store
	// Conductor is the command of the control plane's process, which calls
	// Conduct. Empty: this program with the argument "conductor".
	Conductor []string
	// Overlay is what to run, below k8s/. Empty: overlays/local.
	Overlay string
	// Variant is what an experiment changes in the overlay.
	Variant manifest.Variant
	// Nodes are the modelled nodes that pods wait for. Nil: one node, always there,
	// with room for all.
	Nodes *nodepool.Config
	// Timelapse is by how much the delays of Nodes are divided; 0 means 1. GetInfo
	// tells it to others.
	Timelapse float64
	// Register adds services to the engine's socket. It is called within Up, when
	// everything runs but the replicas and before the socket is served; an error
	// ends Up.
	Register func(*Engine, grpc.ServiceRegistrar) error
	// Yield has the replicas get the CPU only when nothing else wants it: a load
	// generator beside them is then on time. They starve on a host that is busy
	// with other things.
	Yield bool
	// Env is added to the environment of every replica, as NAME=value, where the
	// manifests do not say otherwise.
	Env []string
}

func (o Options) overlay() string { return cmp.Or(o.Overlay, overlay) }

func (o Options) timelapse() float64 { return cmp.Or(o.Timelapse, 1) }

// EventKind says what an Event is about.
type EventKind int

// The kinds of events.
const (
	// EventLeftovers: an engine before this one was killed; Text says what was
	// left and was ended now.
	EventLeftovers EventKind = iota + 1
	// EventManifests: the overlay was read, at the start or after a change.
	EventManifests
	// EventIgnored: Text names what the manifests say and has no effect here: what
	// is known to have none in one event, anything else in one of its own, also
	// what has none until the next start.
	EventIgnored
	// EventManifestError: a changed manifest cannot be used; Text says why. The
	// mesh goes on with what it had.
	EventManifestError
	// EventStore: Redis or NATS is up, down or up again; Text says which and where.
	EventStore
	// EventReplica: something happened to Replica; Text says what.
	EventReplica
	// EventWorkload: Ready or Wanted of Workload changed.
	EventWorkload
	// EventConductor: something happened to the control plane's process.
	EventConductor
	// EventNode: something happened to modelled nodes.
	EventNode
	// EventStopping: the engine drains and stops.
	EventStopping
	// EventStopped: nothing runs any more.
	EventStopped
)

// Event is one thing that happened.
type Event struct {
	At   time.Time
	Kind EventKind
	// Workload and Replica say to whom, where it was one of them.
	Workload, Replica string
	// Ready and Wanted are counts of replicas, for EventWorkload.
	Ready, Wanted int
	// Cut tells of an EventReplica that a process ended and had not drained: it was
	// killed, or ended by itself. What it counted last was never read.
	Cut  bool
	Text string
}

func (e Event) String() string {
	switch {
	case e.Kind == EventWorkload:
		return fmt.Sprintf("%s: %d of %d ready", e.Workload, e.Ready, e.Wanted)
	case e.Replica != "":
		return e.Replica + ": " + e.Text
	default:
		return e.Text
	}
}

package experiment

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/prometheus/promql"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/fault"
	"spillway.dev/lab/load"
	"spillway.dev/lab/scenario"
	"spillway.dev/lab/trace"
)

// Engine starts the meshes that the variants of a scenario run on: Local on this
// machine, package cluster in a cluster.
type Engine interface {
	// Check finds what the scenario asks for and the mesh of the manifests below
	// root has not, before anything runs. It returns the services whose number of
	// replicas may change in any variant: all variants are judged over the same
	// ones.
	Check(s *scenario.Scenario, root string) (scaled map[string]bool, err error)
	// Up starts a mesh that nobody has used. When it fails there is nothing to end.
	Up(ctx context.Context, s Start) (Mesh, error)
	// Environment says where meshes run, for the report.
	Environment(ctx context.Context) map[string]string
}

// Start says which mesh a trial needs.
type Start struct {
	Variant scenario.Variant
	// Timelapse divides the durations of autoscaler, rules and nodes.
	Timelapse float64
	// Scrape is the time between two scrapes of a replica that the scenario needs,
	// before the time-lapse; 0: any will do. A cluster has its own.
	Scrape time.Duration
	// Root holds k8s/ and bin/.
	Root string
	// Dir is the trial's own, for what the mesh keeps.
	Dir string
	Log *slog.Logger
	// Note is told what a person who watches should know.
	Note func(text string)
}

// Mesh is a mesh under trial. Its methods may be called concurrently.
type Mesh interface {
	// WaitReady returns when every replica serves, has declared its knobs and is
	// observed.
	WaitReady(ctx context.Context) error
	// Ready are the services, and how many ready replicas each has.
	Ready(ctx context.Context) (map[string]int, error)
	// SetKnob sets a knob of all replicas of a service, also of those to come.
	SetKnob(ctx context.Context, service, name, value string) error
	// BeginFault begins a fault that ends after d, or with the mesh when d is 0.
	BeginFault(ctx context.Context, f fault.Fault, d time.Duration) error
	// SetReplicas scales a service and returns how many replicas it was to have.
	SetReplicas(ctx context.Context, service string, n int) (previous int, err error)
	// Offer offers load to the gateway from a process of its own: begun is told
	// when that began, tick every second. When ctx ends the process is told to
	// stop, and its record is still taken; when hard ends it is killed.
	Offer(ctx, hard context.Context, plan load.Plan, begun func(time.Time), tick func(load.Tick)) (*load.Record, error)
	// Observed is what was seen of the mesh until now.
	Observed(ctx context.Context) (Observed, error)
	// Down ends the mesh and every fault. What was observed of it stays.
	Down(ctx context.Context) error
}

// Observed is what was seen of a mesh.
type Observed struct {
	Metrics Metrics
	// Since is when the mesh was started: older series are of others.
	Since time.Time
	// Services are those of the mesh: series of other names are not about it.
	Services []string
	// HostCPU is how busy the machines were, where Metrics does not tell, in order
	// of time.
	HostCPU []Busy
	// Rescales and Events are the autoscalers', in order of time.
	Rescales []autoscaler.Rescale
	Events   []autoscaler.Event
	// Cut are the services of which a replica ended without draining.
	Cut map[string]bool
	// Traces may be nil.
	Traces *trace.Store
}

// Busy is the share of its CPU that the busiest machine used from a time on, until
// the next.
type Busy struct {
	At    time.Time
	Share float64
}

// Metrics answers PromQL over what was scraped, as metrics.Store does.
type Metrics interface {
	// Query evaluates an expression at one time.
	Query(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
	// QueryRange evaluates an expression at from, from+step and so on until to.
	QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error)
	// Samples are those of a selector in the time before at, as they were scraped.
	Samples(ctx context.Context, selector string, length time.Duration, at time.Time) (promql.Matrix, error)
	// Interval is the real time between two scrapes of a target.
	Interval() time.Duration
}

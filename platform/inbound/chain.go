// Package inbound is how a service protects itself: what every call passes on
// its way in, in one ordered list for unary calls and streams alike.
//
// Calls of gRPC itself (health, reflection) go past logging, metrics, deadline,
// the protections and capacity: a probe is not load.
package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/backpressure"
	"spillway.dev/platform/capacity"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/inbound/admission"
	"spillway.dev/platform/inbound/concurrency"
	"spillway.dev/platform/inbound/deadline"
	"spillway.dev/platform/inbound/logging"
	"spillway.dev/platform/inbound/queue"
	"spillway.dev/platform/inbound/ratelimit"
	"spillway.dev/platform/inbound/shed"
	"spillway.dev/platform/inbound/validation"
	"spillway.dev/platform/knobs"
	shared "spillway.dev/platform/ratelimit"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/telemetry"
	"spillway.dev/platform/telemetry/red"
)

// workers is how many goroutines a server keeps for calls; calls past them get
// one of their own. A kept goroutine has a stack that is deep enough for the
// chain: to grow a new one for every call took 0.2 of a bare call's CPU, most
// of it under validation. The stacks are 16 KiB each.
const workers = 32

// Config holds the times that calls are judged by.
type Config struct {
	// DefaultDeadline is given to a call that comes with none.
	DefaultDeadline time.Duration
	// MinimumDeadline is the least time a call must have left to be begun.
	MinimumDeadline time.Duration
	// RefuseLate tells whether a call with less than that is refused now; nil stands for always.
	RefuseLate func() bool
}

// Validate names the first setting that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.DefaultDeadline <= 0:
		return fmt.Errorf("inbound: DefaultDeadline is %v; give a time above 0", c.DefaultDeadline)
	case c.MinimumDeadline < 0 || c.MinimumDeadline >= c.DefaultDeadline:
		return fmt.Errorf("inbound: MinimumDeadline is %v; allowed are 0 to less than DefaultDeadline, %v", c.MinimumDeadline, c.DefaultDeadline)
	}
	return nil
}

// Named is one entry of the chain.
type Named struct {
	Name   string
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
}

// Chain is the server's side of what each hop adds.
type Chain struct {
	entries []Named
	rules   *validation.Rules
}

// Replica is what the chain is part of.
type Replica struct {
	Service  string
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Knobs takes the settings of the protections, all of which are off by default.
	Knobs *knobs.Set
	// Refused counts what the protections refuse.
	Refused *refusal.Counter
	// Station is the modelled capacity; nil stands for a replica without a model.
	Station *capacity.Station
	// Limits are the rate limits that all replicas of the service keep together;
	// nil where they have no store for that.
	Limits *shared.Global
	// Pressure tells callers how pressed the replica is; nil: it tells nothing.
	Pressure *backpressure.Reporter
	// Edge says that callers are people, whom the replica may turn away before any
	// work is done for them.
	Edge bool
}

// everyCall is the entries that gRPC's own calls pass too.
var everyCall = []string{"identity", "recovery", "validation"}

// New builds the chain of a replica.
func New(cfg Config, r Replica) (*Chain, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	calls, err := red.NewServer(r.Service, r.Registry)
	if err != nil {
		return nil, fmt.Errorf("inbound: %w", err)
	}
	priority, err := newPriorities(r.Registry)
	if err != nil {
		return nil, fmt.Errorf("inbound: %w", err)
	}
	rates, err := ratelimit.New(r.Knobs, r.Registry, r.Refused, r.Limits)
	if err != nil {
		return nil, fmt.Errorf("inbound: %w", err)
	}
	station := r.Station
	line, err := queue.New(r.Knobs, r.Registry, r.Refused, station)
	if err != nil {
		return nil, fmt.Errorf("inbound: %w", err)
	}
	wait := func(arrival time.Time) time.Duration { return waiting(station, line, arrival) }
	shedder, err := shed.New(r.Knobs, r.Registry, r.Refused, wait)
	if err != nil {
		return nil, fmt.Errorf("inbound: %w", err)
	}
	limiter, err := concurrency.New(r.Knobs, r.Registry, r.Refused, station, wait)
	if err != nil {
		return nil, fmt.Errorf("inbound: %w", err)
	}
	rules := validation.New()
	limits := deadline.Config{Default: cfg.DefaultDeadline, Minimum: cfg.MinimumDeadline, Refuse: cfg.RefuseLate}
	metrics, lines := calls.Peer(identity.Caller), logging.New(r.Log)

	chain := &Chain{rules: rules, entries: []Named{
		// First, since the others tell of the caller and count by class.
		{"identity", identityUnary(r.Log), identityStream(r.Log)},
		{"criticality", priority.unary, priority.stream},
		{"logging", interceptors.UnaryServerInterceptor(lines), interceptors.StreamServerInterceptor(lines)},
		{"metrics", interceptors.UnaryServerInterceptor(metrics), interceptors.StreamServerInterceptor(metrics)},
		// Inside logging and metrics, so that a panic is told of and counted
		// like any failure.
		recovered(r.Log),
		{"deadline", limits.Unary, limits.Stream},
		// Before validation: what is refused here costs as little as can be.
		{"ratelimit", rates.Unary, rates.Stream},
		{"shed", shedder.Unary, shedder.Stream},
		// Before what takes a place: a request that is not valid takes none.
		{"validation", rules.Unary, rules.Stream},
		{"concurrency", limiter.Unary, limiter.Stream},
		{"queue", line.Unary, line.Stream},
		{"capacity", slots{station, line}.unary, slots{station, line}.stream},
	}}
	if err := chain.addPressure(r); err != nil {
		return nil, err
	}
	for i, e := range chain.entries {
		if !slices.Contains(everyCall, e.Name) {
			chain.entries[i] = ownWorkOnly(e)
		}
	}
	return chain, chain.check()
}

// addPressure puts what concerns back-pressure behind the deadline: before every
// protection that refuses, so that refused calls count as offered and their
// answers tell it too, and behind admission, which it has to see the effect of.
func (c *Chain) addPressure(r Replica) error {
	var added []Named
	if r.Edge {
		gate, err := admission.New(r.Knobs, r.Registry, r.Refused)
		if err != nil {
			return fmt.Errorf("inbound: %w", err)
		}
		added = append(added, Named{"admission", gate.Unary, gate.Stream})
	}
	if r.Pressure != nil {
		added = append(added, Named{"backpressure", r.Pressure.UnaryServer, r.Pressure.StreamServer})
	}
	at := slices.IndexFunc(c.entries, func(e Named) bool { return e.Name == "deadline" })
	c.entries = slices.Insert(c.entries, at+1, added...)
	return nil
}

// Warm does before the first call what the first call of each method would
// wait for. It takes what (*grpc.Server).GetServiceInfo gives.
func (c *Chain) Warm(services map[string]grpc.ServiceInfo) error { return c.rules.Warm(services) }

// Entries is the list, outermost first.
func (c *Chain) Entries() []Named { return append([]Named(nil), c.entries...) }

// Names is the names of the entries, outermost first.
func (c *Chain) Names() []string {
	names := make([]string, 0, len(c.entries))
	for _, e := range c.entries {
		names = append(names, e.Name)
	}
	return names
}

// ServerOptions installs the chain. The limits of the transport, tracing
// (telemetry's ServerOptions) and the turning of every error into a problem are
// the server's own, see boot.
func (c *Chain) ServerOptions() []grpc.ServerOption {
	unary := make([]grpc.UnaryServerInterceptor, 0, len(c.entries))
	stream := make([]grpc.StreamServerInterceptor, 0, len(c.entries))
	for _, e := range c.entries {
		unary = append(unary, e.Unary)
		stream = append(stream, e.Stream)
	}
	return []grpc.ServerOption{
		grpc.NumStreamWorkers(workers),
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
	}
}

// check keeps unary calls and streams alike: every entry has both halves, and
// a name stands for one entry.
func (c *Chain) check() error {
	seen := make(map[string]bool, len(c.entries))
	for i, e := range c.entries {
		switch {
		case e.Name == "":
			return fmt.Errorf("inbound: entry %d has no name", i)
		case seen[e.Name]:
			return fmt.Errorf("inbound: two entries are named %q", e.Name)
		case e.Unary == nil || e.Stream == nil:
			return errors.New("inbound: entry " + e.Name + " must have both a unary and a stream interceptor")
		}
		seen[e.Name] = true
	}
	return nil
}

// ownWorkOnly lets calls of gRPC itself pass an entry by: a probe must not wait
// for a slot or count as load.
func ownWorkOnly(e Named) Named {
	return Named{
		Name: e.Name,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if telemetry.Infrastructure(info.FullMethod) {
				return handler(ctx, req)
			}
			return e.Unary(ctx, req, info, handler)
		},
		Stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if telemetry.Infrastructure(info.FullMethod) {
				return handler(srv, ss)
			}
			return e.Stream(srv, ss, info, handler)
		},
	}
}

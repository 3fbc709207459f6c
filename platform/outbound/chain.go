// Package outbound is how a service treats its dependencies: what every call
// passes on its way out, in one ordered list for unary calls and streams alike.
package outbound

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoregistry"

	"spillway.dev/platform/backpressure"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound/attempt"
	"spillway.dev/platform/outbound/breaker"
	"spillway.dev/platform/outbound/budget"
	"spillway.dev/platform/outbound/bulkhead"
	"spillway.dev/platform/outbound/deadline"
	"spillway.dev/platform/outbound/hedge"
	"spillway.dev/platform/outbound/idempotency"
	"spillway.dev/platform/outbound/pacing"
	"spillway.dev/platform/outbound/retry"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/telemetry/red"
)

// connectBackoff is the wait between attempts to connect. grpc-go's own starts
// at one second, and a client that dials a moment before its server listens
// waits for all of it (measured: 1,005 ms).
var connectBackoff = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}

// minConnectTimeout bounds one attempt to connect.
const minConnectTimeout = 2 * time.Second

// keepAlive finds connections whose other end went away without a word (a
// machine that lost power) within 13 s. Only while calls are under way: an
// idle replica costs nothing.
var keepAlive = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}

// Window is how many bytes of a connection, and of each of its streams, may be
// under way unread, on both sides of every hop. It is fixed: to find a better
// one grpc-go sends a ping for nearly every message of a connection that is not
// saturated, and each ping wakes both ends once more than the call does
// (measured on the whole mesh: a quarter of all reads and writes). The largest
// message is 1 MiB.
const Window = 1 << 20

// Config says how patient the service is with its dependencies.
type Config struct {
	// Shave is taken off the deadline that is passed on, so that the answer
	// "too late" comes from the callee and comes in time.
	Shave time.Duration
	// Attempts bounds how often a call is sent, the first time included; only
	// for methods whose idempotency_level allows more than one.
	Attempts int
}

// Validate names the first setting that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Shave < 0:
		return fmt.Errorf("outbound: Shave is %v; give 0 or more", c.Shave)
	case c.Attempts < 1:
		return fmt.Errorf("outbound: Attempts is %d; give at least 1", c.Attempts)
	}
	return nil
}

// Named is one entry of the chain.
type Named struct {
	Name   string
	Unary  grpc.UnaryClientInterceptor
	Stream grpc.StreamClientInterceptor
}

// Replica is the process that calls.
type Replica struct {
	Service  string
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Knobs gets those of the protections, all of which are off by default.
	Knobs   *knobs.Set
	Refused *refusal.Counter
	// Pressure notes what callees tell; nil: nothing is noted.
	Pressure *backpressure.Reporter
}

// Chain is the client's side of what each hop adds.
type Chain struct {
	cfg     Config
	service string
	name    metadata.MD // never changed: gRPC copies before it adds
	calls   *red.Calls
	retries *retry.Policy
	hedges  *hedge.Policy

	breakers  *breaker.Breakers
	pacers    *pacing.Pacers
	bulkheads *bulkhead.Bulkheads
	limit     *attempt.Limit
	pressure  *backpressure.Reporter
}

// New prepares the chain of a service, for all that it calls. Retries and hedges
// of all callees share one budget.
func New(cfg Config, replica Replica) (*Chain, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Chain{cfg: cfg, service: replica.Service, pressure: replica.Pressure, name: metadata.Pairs(identity.Header, replica.Service)}
	set, reg, contract := replica.Knobs, replica.Registry, idempotency.New(protoregistry.GlobalFiles)
	var err error
	if c.calls, err = red.NewClient(replica.Service, reg); err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	shared, err := budget.New(set, reg)
	if err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	if c.retries, err = retry.New(cfg.Attempts, set, contract, shared, replica.Log, reg); err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	if c.hedges, err = hedge.New(set, contract, shared, reg); err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	if c.breakers, err = breaker.New(set, replica.Refused, reg); err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	if c.pacers, err = pacing.New(set, replica.Refused, reg); err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	if c.bulkheads, err = bulkhead.New(set, replica.Refused, reg); err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	c.limit = attempt.NewLimit(set)
	return c, nil
}

// Entries is the list for calls to callee, a name in the mesh, outermost first.
// What the entries know of a callee is shared by all of its connections.
func (c *Chain) Entries(callee string) []Named {
	whole := c.calls.Peer(func(context.Context) string { return callee })
	each := c.calls.Attempt(callee)
	shave := deadline.Shave(c.cfg.Shave)
	again, twice := c.retries.For(callee), c.hedges.For(callee)
	fuse, pace, bulk := c.breakers.For(callee), c.pacers.For(callee), c.bulkheads.For(callee)
	entries := []Named{
		{"metrics", interceptors.UnaryClientInterceptor(whole), interceptors.StreamClientInterceptor(whole)},
		// Outside retry: all attempts share one deadline.
		{"deadline", shave.Unary, shave.Stream},
		{"identity", c.identityUnary, c.identityStream},
		{"retry", again.Unary, again.Stream},
		{"hedge", twice.Unary, twice.Stream},
		// These see attempts: a retry too must get past them.
		{"breaker", fuse.Unary, fuse.Stream},
		{"pacing", pace.Unary, pace.Stream},
		{"bulkhead", bulk.Unary, bulk.Stream},
		// Inside all waits: it is the callee's time that is bounded.
		{"attempt timeout", c.limit.Unary, c.limit.Stream},
		// Inside retry: what is counted here has reached the callee's door.
		{"attempts", interceptors.UnaryClientInterceptor(each), interceptors.StreamClientInterceptor(each)},
	}
	if c.pressure != nil {
		// Innermost: every attempt's answer tells it.
		entries = append(entries, Named{"backpressure", c.pressure.UnaryClient, c.pressure.StreamClient})
	}
	return entries
}

// Pacer is the one for calls to callee, a name in the mesh.
func (c *Chain) Pacer(callee string) *pacing.Pacer { return c.pacers.For(callee) }

// DialOptions is for a connection to callee, a name in the mesh. Tracing is not
// part of it: telemetry's DialOptions come after these.
func (c *Chain) DialOptions(callee string) []grpc.DialOption {
	var unary []grpc.UnaryClientInterceptor
	var stream []grpc.StreamClientInterceptor
	for _, e := range c.Entries(callee) {
		unary = append(unary, e.Unary)
		stream = append(stream, e.Stream)
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(unary...),
		grpc.WithChainStreamInterceptor(stream...),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: connectBackoff, MinConnectTimeout: minConnectTimeout}),
		grpc.WithKeepaliveParams(keepAlive),
		grpc.WithStaticStreamWindowSize(Window),
		grpc.WithStaticConnWindowSize(Window),
		// Retries are decided in one place, above; grpc-go's own would multiply them.
		grpc.WithDisableRetry(),
	}
}

// named is ctx with the service's name as the caller, and the priority of the
// work that the call is part of. Where there is neither other metadata nor a
// priority that is one shared value.
func (c *Chain) named(ctx context.Context) context.Context {
	if _, other := metadata.FromOutgoingContext(ctx); other {
		return criticality.Outgoing(identity.Outgoing(ctx, c.service))
	}
	if priority, ok := criticality.Own(ctx); ok {
		return metadata.NewOutgoingContext(ctx, metadata.MD{identity.Header: c.name[identity.Header], criticality.Header: {priority}})
	}
	return metadata.NewOutgoingContext(ctx, c.name)
}

func (c *Chain) identityUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(c.named(ctx), method, req, reply, cc, opts...)
}

func (c *Chain) identityStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(c.named(ctx), desc, cc, method, opts...)
}

// Package outbound is how a service treats its dependencies: what every call
// passes on its way out, in one ordered list for unary calls and streams alike.
package outbound

import (
	"context"
	"errors"
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

	"spillway.dev/platform/identity"
	"spillway.dev/platform/outbound/deadline"
	"spillway.dev/platform/outbound/retry"
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

// Chain is the client's side of what each hop adds.
type Chain struct {
	cfg     Config
	service string
	name    metadata.MD // never changed: gRPC copies before it adds
	calls   *red.Calls
	retries *retry.Policy
}

// New prepares the chain of service, for all that it calls.
func New(cfg Config, service string, log *slog.Logger, reg prometheus.Registerer) (*Chain, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	calls, err := red.NewClient(service, reg)
	if err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	c := &Chain{cfg: cfg, service: service, name: metadata.Pairs(identity.Header, service), calls: calls, retries: retry.New(cfg.Attempts, log)}
	return c, check(c.Entries(""))
}

// Entries is the list for calls to callee, outermost first.
func (c *Chain) Entries(callee string) []Named {
	whole := c.calls.Peer(func(context.Context) string { return callee })
	each := c.calls.Attempt(callee)
	shave := deadline.Shave(c.cfg.Shave)
	return []Named{
		{"metrics", interceptors.UnaryClientInterceptor(whole), interceptors.StreamClientInterceptor(whole)},
		// Outside retry: all attempts share one deadline.
		{"deadline", shave.Unary, shave.Stream},
		{"identity", c.identityUnary, c.identityStream},
		{"retry", c.retries.Unary, c.retries.Stream},
		// Inside retry: what is counted here has reached the callee's door.
		{"attempts", interceptors.UnaryClientInterceptor(each), interceptors.StreamClientInterceptor(each)},
	}
}

// Names is the names of the entries, outermost first.
func (c *Chain) Names() []string {
	var names []string
	for _, e := range c.Entries("") {
		names = append(names, e.Name)
	}
	return names
}

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

// named is ctx with the service's name as the caller. Where there is no other
// metadata, as in nearly every call, that is one shared value.
func (c *Chain) named(ctx context.Context) context.Context {
	if _, other := metadata.FromOutgoingContext(ctx); other {
		return identity.Outgoing(ctx, c.service)
	}
	return metadata.NewOutgoingContext(ctx, c.name)
}

func (c *Chain) identityUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(c.named(ctx), method, req, reply, cc, opts...)
}

func (c *Chain) identityStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(c.named(ctx), desc, cc, method, opts...)
}

// check keeps unary calls and streams alike: every entry has both halves, and
// a name stands for one entry.
func check(entries []Named) error {
	seen := make(map[string]bool, len(entries))
	for i, e := range entries {
		switch {
		case e.Name == "":
			return fmt.Errorf("outbound: entry %d has no name", i)
		case seen[e.Name]:
			return fmt.Errorf("outbound: two entries are named %q", e.Name)
		case e.Unary == nil || e.Stream == nil:
			return errors.New("outbound: entry " + e.Name + " must have both a unary and a stream interceptor")
		}
		seen[e.Name] = true
	}
	return nil
}

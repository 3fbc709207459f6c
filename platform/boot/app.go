package boot

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/test/bufconn"

	"spillway.dev/platform/backpressure"
	"spillway.dev/platform/capacity"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/telemetry"
	"spillway.dev/platform/tlsfiles"
)

// App is what a service builds itself on. Its methods are for Build, called in one goroutine; Name, Instance, Log,
// Registerer and Tracer may be used at any time by any goroutine.
type App struct {
	name, instance string
	ctx            context.Context // ends when the drain begins
	log            *slog.Logger
	telemetry      *telemetry.Telemetry
	outbound       *outbound.Chain
	station        *capacity.Station
	knobs          *knobs.Set
	pressure       *backpressure.Reporter
	redis          redisPool
	server         *grpc.Server
	tls            *tlsfiles.Files // nil: plaintext

	loopback     *bufconn.Listener
	loopbackConn *grpc.ClientConn

	required     []*dependency
	dependencies []*dependency
	callees      []downstream
	warmups      []named
	workers      []named
	https        []*httpListener
	closers      []named
}

// named is a function with the name it is logged under.
type named struct {
	name string
	run  func(context.Context) error
}

type httpListener struct {
	name, addr string
	server     *http.Server
	listener   net.Listener
}

// Name is the service's name.
func (a *App) Name() string { return a.name }

// Instance is the replica's name.
func (a *App) Instance() string { return a.instance }

// Log is the service's logger.
func (a *App) Log() *slog.Logger { return a.log }

// Registerer takes the service's own metrics.
func (a *App) Registerer() prometheus.Registerer { return a.telemetry.Registry() }

// Tracer makes the service's own spans.
func (a *App) Tracer() trace.Tracer { return a.telemetry.Tracer() }

// Server takes RPC services. Their health names and reflection follow by themselves.
func (a *App) Server() grpc.ServiceRegistrar { return a.server }

// Knobs takes the settings that may change while the replica runs. All are declared in Build; before warm-up they have
// the values that the control plane sent, or their defaults when it could not be asked.
func (a *App) Knobs() *knobs.Set { return a.knobs }

// Dial returns a connection to a downstream, through the outbound chain, closed at the end of the drain. callee is the
// downstream's name in the mesh, for metrics; target is where to find it, such as "xds:///inventory". It does not wait:
// the connection is begun at once and its state matters to nobody but its calls. Under mutual TLS the callee must show a
// certificate for the name callee.
//
// A service with an xds:/// target imports google.golang.org/grpc/xds itself: a replica that calls nobody is then a third
// smaller in memory, and starts in half the time.
func (a *App) Dial(callee, target string) (*grpc.ClientConn, error) {
	if scheme, _, found := strings.Cut(target, ":///"); found && resolver.Get(scheme) == nil {
		return nil, fmt.Errorf("dial %s at %q: no resolver for %q is linked into this program; for xds import google.golang.org/grpc/xds", callee, target, scheme)
	}
	conn, err := grpc.NewClient(target,
		slices.Concat(a.outbound.DialOptions(callee), a.telemetry.DialOptions(), a.callerCredentials(callee))...)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %q: %w", callee, target, err)
	}
	conn.Connect()
	a.callees = append(a.callees, downstream{callee, conn})
	a.OnClose(callee, func(context.Context) error { return conn.Close() })
	return conn, nil
}

// Loopback returns the connection to this replica's own server, within the process and through the server's chain, as
// a gateway needs it that turns HTTP into RPC. It is plaintext always: nothing leaves the process.
func (a *App) Loopback() (*grpc.ClientConn, error) {
	if a.loopbackConn != nil {
		return a.loopbackConn, nil
	}
	const buffer = 256 << 10 // bytes in flight each way; HTTP/2 flow control waits beyond
	lis := bufconn.Listen(buffer)
	conn, err := grpc.NewClient("passthrough:///loopback",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, fmt.Errorf("dial this replica itself: %w", err)
	}
	a.loopback, a.loopbackConn = lis, conn
	a.OnClose("loopback", func(context.Context) error { return conn.Close() })
	return conn, nil
}

// Dependency names something that must be reached before the replica is any good, and how to reach it. connect is tried,
// with back-off and each attempt bounded, until it succeeds or the replica drains. The start waits for all dependencies
// at once until SPILLWAY_START_TIMEOUT, then goes on without those that are away; they are tried on.
func (a *App) Dependency(name string, connect func(context.Context) error) {
	a.dependencies = append(a.dependencies, &dependency{name: name, connect: connect})
}

// Require is Dependency for what the replica is worse than useless without: it does not become ready before connect has
// succeeded, however long that takes. Start timeout and dependencies begin after it.
func (a *App) Require(name string, connect func(context.Context) error) {
	a.required = append(a.required, &dependency{name: name, connect: connect})
}

// Warm adds a warm-up step. Steps run in order before the first call is let in, within what is left of the start timeout.
// A failure is logged and not fatal.
func (a *App) Warm(name string, f func(context.Context) error) {
	a.warmups = append(a.warmups, named{name, f})
}

// Worker adds a function that runs beside the RPCs from serving on. Its ctx ends at the drain step "workers"; f then
// finishes what it holds and returns. When f returns an error before that, it is logged and f runs again after a back-off.
func (a *App) Worker(name string, f func(ctx context.Context) error) {
	a.workers = append(a.workers, named{name, f})
}

// Work passes the replica's modelled capacity, for work that comes from a queue: RPCs pass it by themselves. It waits for
// a slot and for the service time, and returns nil then, or an error when ctx ends first or would (capacity.ErrTooLate).
// Safe for concurrent use.
func (a *App) Work(ctx context.Context) error {
	_, err := a.station.Serve(ctx, time.Now())
	return err
}

// Limit adds a limit on the calls that the replica can serve a second, beside its modelled capacity: what it tells callers
// of its pressure goes by the tightest. limit may be called at any time by any goroutine; 0 stands for none.
func (a *App) Limit(limit func() float64) { a.pressure.Limit(limit) }

// ServeHTTP adds an HTTP listener. It answers from the state starting on (calls through Loopback are refused until
// serving) and is drained before gRPC is.
func (a *App) ServeHTTP(name, addr string, h http.Handler) {
	a.https = append(a.https, &httpListener{name: name, addr: addr, server: newHTTPServer(h, a.log)})
}

// OnClose adds a function to the end of the drain, after telemetry was flushed. The last added runs first.
func (a *App) OnClose(name string, f func(context.Context) error) {
	a.closers = append(a.closers, named{name, f})
}

// serviceNames lists the RPC services registered so far, sorted.
func (a *App) serviceNames() []string {
	return slices.Sorted(maps.Keys(a.server.GetServiceInfo()))
}

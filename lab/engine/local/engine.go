package local

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"spillway.dev/lab/engine/local/frontdoor"
	"spillway.dev/lab/engine/local/logs"
	"spillway.dev/lab/engine/local/port"
	"spillway.dev/lab/engine/local/process"
	"spillway.dev/lab/engine/local/store"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/nodepool"
	"spillway.dev/platform/mesh"
)

// Engine is a running mesh. Its methods are safe for concurrent use.
type Engine struct {
	options Options
	started time.Time
	dir     *stateDir
	events  *events
	ports   *port.Allocator
	ledger  *process.Ledger
	spawner *process.Spawner // of what the mesh stands on
	// replicas makes the replicas' processes.
	replicas *process.Spawner
	logs     *logs.Hub

	stores    sync.Mutex  // held while one is stopped or started
	nats      *store.NATS // nil while it is stopped
	natsURL   string
	natsPort  int
	redis     *keeper          // redis-server, or nil
	miniredis *store.MiniRedis // or this
	// keeps tells whether what is sold outlives the engine: there is a redis-server.
	keeps     bool
	redisPath string
	redisLog  *logs.Writer
	redisAddr string
	redisKind string

	otlp       *grpc.Server
	otlpAddr   string
	conductor  *conductor
	xdsAddr    string
	doors      []*door
	api        *grpc.Server
	socket     string
	servers    sync.WaitGroup // the gRPC servers' accept loops
	background sync.WaitGroup // controller and watcher
	halt       context.CancelFunc
	pods       sync.WaitGroup

	stopOnce sync.Once
	stop     chan struct{} // closed by StopRequested's causes
	downOnce sync.Once
	down     chan struct{} // closed when everything has stopped
	downErr  error
	hurry    chan struct{} // closed when a stop must not wait any longer

	wake chan struct{}

	mu          sync.Mutex
	pool        *nodepool.Pool // nil: pods wait for no node
	manifests   *manifest.Mesh
	clusterIPs  map[servicePort]*frontdoor.Proxy
	deployments map[string]*deployment
	stopping    bool
	announced   []byte   // the latest state of the mesh
	complaint   string   // why the state after it could not be announced
	late        []string // what of the front doors waits for the next start
	updates     mesh.Updates
	faults      map[string][]mesh.Fault
	knobs       map[string]map[string]string
	revision    uint64        // counts what changed is closed for
	prometheus  string        // where the Prometheus HTTP API is served
	changed     chan struct{} // closed and replaced at every change
}

// sorted lists the Deployments by name. Engine.mu is held.
func (e *Engine) sorted() []*deployment {
	return slices.SortedFunc(maps.Values(e.deployments), func(a, b *deployment) int { return strings.Compare(a.name, b.name) })
}

// WaitReady returns when every Deployment has the replicas it wants, ready and of
// the current template. When ctx ends first the error names who is missing.
func (e *Engine) WaitReady(ctx context.Context) error {
	for {
		e.mu.Lock()
		changed := e.changed
		var missing []string
		for _, d := range e.sorted() {
			if !d.settled() {
				missing = append(missing, d.trouble(time.Now()))
			}
		}
		e.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("not ready: %s: %w", strings.Join(missing, "; "), ctx.Err())
		}
	}
}

// trouble says in one line what a Deployment waits for. Engine.mu is held.
func (d *deployment) trouble(now time.Time) string {
	ready, _, _ := d.counts()
	text := fmt.Sprintf("%s has %d of %d", d.name, ready, d.wanted())
	for _, p := range d.pods {
		if r := p.replica(now); !r.GetReady() && r.GetReason() != "" {
			return text + " (" + r.GetName() + ": " + r.GetReason() + ")"
		}
	}
	return text
}

// StopRequested is closed when someone asked for the end through the engine's
// API. Whoever called Up then calls Down.
func (e *Engine) StopRequested() <-chan struct{} { return e.stop }

// GatewayURL is where people reach the gateway over HTTP, empty when there is no
// such front door.
func (e *Engine) GatewayURL() string {
	if address := e.doorTo("http"); address != "" {
		return "http://" + address
	}
	return ""
}

// doorTo finds a front door by the name of its port.
func (e *Engine) doorTo(name string) string {
	for _, d := range e.doors {
		if d.name == name {
			return d.proxy.Addr()
		}
	}
	return ""
}

// listen opens a listener on a port of the engine's own.
func (e *Engine) listen() (*net.TCPListener, error) {
	for {
		p, err := e.ports.Get()
		if err != nil {
			return nil, err
		}
		lis, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", host, p))
		if err == nil {
			return lis.(*net.TCPListener), nil
		}
		// Somebody took it in this moment: it is theirs.
	}
}

package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"spillway.dev/lab/engine/local/frontdoor"
	"spillway.dev/lab/engine/local/logs"
	"spillway.dev/lab/engine/local/port"
	"spillway.dev/lab/engine/local/process"
	"spillway.dev/lab/engine/manifest"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// cleanUp bounds the way back when a start has failed.
const cleanUp = 10 * time.Second

// Up starts the mesh and returns when everything has been started; WaitReady
// tells when it serves. ctx bounds the start only: the mesh runs until Down. When
// Up fails nothing is left running.
func Up(ctx context.Context, options Options) (*Engine, error) {
	if len(options.Conductor) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		options.Conductor = []string{self, conductorName}
	}
	root, err := filepath.Abs(options.Root)
	if err != nil {
		return nil, fmt.Errorf("root directory: %w", err)
	}
	options.Root = root
	dir, err := claim(options.StateDir)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		options: options, started: time.Now(), dir: dir,
		stop: make(chan struct{}), down: make(chan struct{}), hurry: make(chan struct{}),
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
		deployments: map[string]*deployment{}, clusterIPs: map[servicePort]*frontdoor.Proxy{},
		halt:   func() {},
		ports:  port.NewAllocator(),
		events: newEvents(options.Progress),
	}
	if err := e.up(ctx); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		return nil, errors.Join(err, e.Down(stopCtx))
	}
	return e, nil
}

func (e *Engine) up(ctx context.Context) error {
	if err := e.endLeftovers(); err != nil {
		return err
	}
	manifests, err := e.load()
	if err != nil {
		return err
	}
	e.manifests = manifests
	if err := e.checkPrograms(); err != nil {
		return err
	}
	if err := e.openPool(); err != nil {
		return err
	}
	logDir := filepath.Join(e.dir.path, "logs")
	if e.logs, err = logs.NewHub(logDir); err != nil {
		return err
	}
	e.spawner = process.NewSpawner(e.ledger, false)
	e.replicas = process.NewSpawner(e.ledger, e.options.Yield)
	if err := e.startStores(ctx); err != nil {
		return err
	}
	if err := e.startReceiver(); err != nil {
		return err
	}
	if err := e.startConductor(); err != nil {
		return err
	}
	e.fillIn(e.manifests)
	if err := e.openDoors(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start the mesh: %w", err)
	}
	background, halt := context.WithCancel(context.Background())
	e.halt = halt
	if err := e.watchManifests(background); err != nil {
		return err
	}
	if err := e.serveAPI(); err != nil {
		return err
	}
	e.adopt()
	e.background.Go(func() { e.control(background) })
	return nil
}

// endLeftovers ends what an engine that was killed has left, and says so.
func (e *Engine) endLeftovers() error {
	ledger, left, err := process.OpenLedger(filepath.Join(e.dir.path, ledgerFile))
	if err != nil {
		return err
	}
	e.ledger = ledger
	if len(left) == 0 {
		return nil
	}
	var ended []string
	for _, l := range left {
		if l.Ended {
			ended = append(ended, fmt.Sprintf("%s (pid %d)", l.Name, l.PID))
		}
	}
	text := fmt.Sprintf("the engine before this one was killed; all of its %d processes ended with it", len(left))
	if len(ended) > 0 {
		text = fmt.Sprintf("the engine before this one was killed; of its %d processes %d still ran and were ended: %s", len(left), len(ended), strings.Join(ended, ", "))
	}
	e.events.post(Event{Kind: EventLeftovers, Text: text})
	// Their directories are of no use to anybody.
	if err := os.RemoveAll(filepath.Join(e.dir.path, "pods")); err != nil {
		return fmt.Errorf("remove what an engine before left: %w", err)
	}
	return nil
}

// load reads and checks the overlay and puts the engine's own addresses into it.
func (e *Engine) load() (*manifest.Mesh, error) {
	overlay := e.options.overlay()
	m, err := manifest.LoadVariant(filepath.Join(e.options.Root, "k8s"), overlay, e.options.Variant, filepath.Join(e.dir.path, "variant"))
	if err != nil {
		return nil, err
	}
	if err := check(m); err != nil {
		return nil, err
	}
	e.fillIn(m)
	e.events.post(Event{Kind: EventManifests, Text: fmt.Sprintf("k8s/%s: %d Deployments, %d Services", overlay, len(m.Deployments), len(m.Services))})
	var expected []string
	for _, i := range m.Ignored {
		if i.Expected {
			expected = append(expected, strings.Replace(i.What, "spec.template.spec.", "", 1))
		} else {
			e.events.post(Event{Kind: EventIgnored, Text: "without effect: " + i.String()})
		}
	}
	if len(expected) > 0 {
		e.events.post(Event{Kind: EventIgnored, Text: "without effect on one machine: " + strings.Join(expected, ", ")})
	}
	return m, nil
}

// fillIn says in ConfigMap mesh where this engine's platform is. What else the
// manifests say there stays.
func (e *Engine) fillIn(m *manifest.Mesh) {
	if c := m.ConfigMaps["mesh"]; c != nil {
		if c.Data == nil {
			c.Data = map[string]string{}
		}
		c.Data["xds"], c.Data["redis"], c.Data["nats"], c.Data["otlp"] = e.xdsAddr, e.redisAddr, e.natsURL, "http://"+e.otlpAddr
	}
}

// checkPrograms finds out before anything starts whether all is built.
func (e *Engine) checkPrograms() error {
	var missing []string
	for _, d := range e.manifests.Deployments {
		path := e.program(&d.Spec.Template)
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			missing = append(missing, path)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: not there; build it with `make build`", strings.Join(missing, ", "))
	}
	return nil
}

// startReceiver takes in the spans that the services send.
func (e *Engine) startReceiver() error {
	lis, err := e.listen()
	if err != nil {
		return err
	}
	e.otlpAddr = lis.Addr().String()
	e.otlp = grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(e.otlp, e.options.Traces)
	e.serve(e.otlp, lis)
	return nil
}

func (e *Engine) startConductor() error {
	lis, err := e.listen()
	if err != nil {
		return err
	}
	e.xdsAddr = lis.Addr().String()
	e.mu.Lock()
	e.announce()
	first := e.announced
	e.mu.Unlock()
	report := func(text string) { e.events.post(Event{Kind: EventConductor, Text: "control plane: " + text}) }
	out := e.logs.Writer(conductorName, conductorName)
	if e.conductor, err = startConductor(e.spawner, e.options.Conductor, os.Environ(), lis, first, out, report); err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	return nil
}

// adopt makes the manifests the ones that hold.
func (e *Engine) adopt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.manifests.Deployments {
		d := e.deployments[m.Name]
		if d == nil {
			d = &deployment{name: m.Name, created: time.Now()}
			e.deployments[m.Name] = d
		}
		d.adopt(m)
	}
	for _, d := range e.deployments {
		if e.manifests.Deployment(d.name) == nil {
			d.removed = true
		}
	}
	e.renewDoors()
	e.openClusterIPs()
	e.wakeUp()
}

// serveAPI answers the command line on the engine's socket.
func (e *Engine) serveAPI() error {
	socket, err := e.dir.socket()
	if err != nil {
		return err
	}
	// The lock is ours: whoever listened there is gone.
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the socket of an engine before: %w", err)
	}
	lis, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	// Down removes the file itself, before the next engine may make its own.
	lis.(*net.UnixListener).SetUnlinkOnClose(false)
	e.socket = socket
	if err := os.Chmod(socket, 0o600); err != nil {
		lis.Close()
		return fmt.Errorf("listen for commands: %w", err)
	}
	e.api = grpc.NewServer()
	enginev1.RegisterEngineServiceServer(e.api, api{Engine: e})
	if e.options.Register != nil {
		if err := e.options.Register(e, e.api); err != nil {
			lis.Close()
			return err
		}
	}
	e.serve(e.api, lis)
	return e.dir.announce(socket, e.started)
}

func (e *Engine) serve(s *grpc.Server, lis net.Listener) {
	e.servers.Go(func() {
		if err := s.Serve(lis); err != nil {
			e.options.Log.Error("a server of the engine ended", "address", lis.Addr().String(), "error", err)
		}
	})
}

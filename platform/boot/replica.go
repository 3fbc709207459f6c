package boot

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"spillway.dev/platform/backpressure"
	"spillway.dev/platform/capacity"
	"spillway.dev/platform/health"
	"spillway.dev/platform/inbound"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/telemetry"
)

// replica is one life of a service: what Run takes from start to drain.
type replica struct {
	app    *App
	cfg    *settings
	zone   string
	health *health.Server
	open   *atomic.Bool // calls are let in; stays true while draining, for calls under way and latecomers

	grpcListener, adminListener net.Listener
	admin                       *http.Server
	scraped                     *lastScrape

	stop       context.CancelFunc // ends app.ctx: start, dependencies
	background sync.WaitGroup     // dependencies
	workers    sync.WaitGroup
	work       context.Context // the workers'; ends at their drain step
	stopWork   context.CancelFunc
	failed     chan error // a listener gave up

	startDelay *knobs.Duration
	refuseLate *knobs.Bool
	readiness  *knobs.Choice
	control    *grpc.ClientConn // nil without SPILLWAY_CONTROL_TARGET
}

// newReplica does the first steps: telemetry, listeners, admin port, chains.
func newReplica(ctx context.Context, spec Spec, cfg *settings, stderr io.Writer) (_ *replica, err error) {
	tel, err := telemetry.New(ctx, telemetry.Config{
		Service: spec.Name, Instance: cfg.Instance, Zone: cfg.Zone, LogLevel: cfg.LogLevel, TraceRatio: cfg.TraceRatio,
	}, stderr)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	r := &replica{cfg: cfg, zone: cfg.Zone, health: health.NewServer(), open: &atomic.Bool{}, scraped: newLastScrape(), failed: make(chan error, 8)}
	r.app = &App{name: spec.Name, instance: cfg.Instance, log: tel.Log(), telemetry: tel, knobs: knobs.NewSet(),
		redis: redisPool{size: cfg.RedisPoolSize, minIdle: cfg.RedisMinIdle, refused: newRefusedConnections()}}
	r.app.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.work, r.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			r.abandon()
		}
	}()
	if r.grpcListener, err = listen("SPILLWAY_GRPC_ADDR", cfg.GRPCAddr); err != nil {
		return nil, err
	}
	if r.adminListener, err = listen("SPILLWAY_ADMIN_ADDR", cfg.AdminAddr); err != nil {
		return nil, err
	}
	r.admin = newHTTPServer(r.adminHandler(), tel.Log())
	go r.supervise("admin HTTP", func() error { return r.admin.Serve(r.adminListener) })

	if err := tel.Registry().Register(r.app.knobs); err != nil {
		return nil, fmt.Errorf("knobs: %w", err)
	}
	if err := tel.Registry().Register(r.app.redis.refused); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	station, err := capacity.New(capacity.Config{
		Kind: cfg.Kind, Slots: cfg.Slots, ServiceTime: cfg.ServiceTime, Distribution: cfg.Distribution,
		ColdFactor: cfg.Start.ColdFactor, ColdFor: cfg.Start.ColdFor, Seed: seed(spec.Name, cfg.Instance),
	}, tel.Registry())
	if err != nil {
		return nil, fmt.Errorf("capacity: %w", err)
	}
	r.app.station = station
	r.declareKnobs()
	refused, err := refusal.New(tel.Registry())
	if err != nil {
		return nil, err
	}
	if r.app.pressure, err = backpressure.New(r.app.knobs, tel.Registry()); err != nil {
		return nil, err
	}
	r.app.Limit(func() float64 { return float64(station.Slots()) / station.ServiceTime().Seconds() })
	in, err := inbound.New(inbound.Config{
		DefaultDeadline: cfg.DeadlineDefault, MinimumDeadline: cfg.DeadlineShave, RefuseLate: r.refuseLate.Get,
	}, inbound.Replica{
		Service: spec.Name, Log: tel.Log(), Registry: tel.Registry(), Knobs: r.app.knobs, Refused: refused, Station: station,
		Limits: r.app.rateLimit(cfg.RateLimitRedisAddr), Pressure: r.app.pressure, Edge: spec.Edge,
	})
	if err != nil {
		return nil, fmt.Errorf("inbound chain: %w", err)
	}
	if r.app.outbound, err = outbound.New(outbound.Config{Shave: cfg.DeadlineShave, Attempts: cfg.RetryAttempts}, outbound.Replica{
		Service: spec.Name, Log: tel.Log(), Registry: tel.Registry(), Knobs: r.app.knobs, Refused: refused, Pressure: r.app.pressure,
	}); err != nil {
		return nil, fmt.Errorf("outbound chain: %w", err)
	}
	secure, err := r.openTLS(spec.Edge)
	if err != nil {
		return nil, err
	}
	r.app.server = grpc.NewServer(append(serverOptions(tel, in, gate{open: r.open, edge: spec.Edge}, cfg.GRPCMaxConnectionAge), secure...)...)
	r.app.Warm("validation", func(context.Context) error { return in.Warm(r.app.server.GetServiceInfo()) })
	return r, nil
}

// build lets the service build itself, then completes the server and starts it. Nothing but health is answered yet.
func (r *replica) build(ctx context.Context, spec Spec) error {
	bounded, cancel := context.WithTimeout(r.app.ctx, r.cfg.StartTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if err := spec.Build(bounded, r.app); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if err := r.dialControl(); err != nil {
		return err
	}
	for _, h := range r.app.https {
		var err error
		if h.listener, err = listen(h.name, h.addr); err != nil {
			return err
		}
	}
	r.health.Speak(r.app.serviceNames()...)
	healthpb.RegisterHealthServer(r.app.server, r.health)
	reflection.Register(r.app.server)

	go r.supervise("gRPC", func() error { return r.app.server.Serve(r.grpcListener) })
	if r.app.loopback != nil {
		go r.supervise("loopback", func() error { return r.app.server.Serve(r.app.loopback) })
	}
	for _, h := range r.app.https {
		go r.supervise(h.name, func() error { return h.server.Serve(h.listener) })
	}
	return nil
}

// addresses are where the replica listens, by name, for the log.
func (r *replica) addresses() []any {
	at := []any{"grpc", r.grpcListener.Addr().String(), "admin", r.adminListener.Addr().String()}
	for _, h := range r.app.https {
		at = append(at, h.name, h.listener.Addr().String())
	}
	return at
}

// start goes through starting and warming up to serving, or returns early when ctx ends.
func (r *replica) start(ctx context.Context) {
	log, begin := r.app.log, time.Now()
	r.require(ctx)
	bounded, cancel := context.WithTimeout(ctx, r.cfg.StartTimeout)
	defer cancel()

	known := r.watchKnobs()
	r.reach(bounded)
	known(bounded)
	left := remaining(bounded) // the modelled start does not use up what warm-up may take
	if ctx.Err() != nil || !r.hold(ctx, begin) {
		return
	}
	r.enter(health.Warming)
	bounded, cancel = context.WithTimeout(ctx, left)
	defer cancel()
	for _, w := range r.app.warmups {
		step := time.Now()
		if err := w.run(bounded); err != nil {
			log.Warn("warm-up step failed", "step", w.name, "took", since(step), "error", err)
		} else {
			log.Info("warm-up step done", "step", w.name, "took", since(step))
		}
		if ctx.Err() != nil {
			return
		}
	}
	if !r.warm(ctx) {
		return
	}
	r.open.Store(true)
	for _, w := range r.app.workers { // before the word of it: a replica that is told to end at once has had its workers too
		r.workers.Go(func() { r.labour(w) })
	}
	r.enter(health.Serving)
	r.background.Go(func() { r.examine(r.app.ctx) })
	log.Info("serving", "took", since(begin))
}

// remaining is the time until ctx's deadline, which it has.
func remaining(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return time.Until(deadline)
}

// serve waits until ctx ends or a listener gives up, which it returns.
func (r *replica) serve(ctx context.Context) error {
	select {
	case <-ctx.Done():
		r.app.log.Info("told to end")
		return nil
	case err := <-r.failed:
		r.app.log.Error("cannot go on", "error", err)
		return err
	}
}

// enter changes the state; the order is Run's own, so a refusal is a fault of this package and only logged.
func (r *replica) enter(s health.State) {
	if err := r.health.Set(s); err != nil {
		r.app.log.Error("state", "error", err)
		return
	}
	r.app.log.Info("state", "state", s.String())
}

// labour runs a worker until it returns without error or its time is over, and again after a back-off when it fails.
func (r *replica) labour(w named) {
	ctx := r.work
	for wait := range backoff() {
		err := w.run(ctx)
		if ctx.Err() != nil || err == nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				r.app.log.Warn("worker ended with an error", "worker", w.name, "error", err)
			}
			return
		}
		r.app.log.Warn("worker failed and will run again", "worker", w.name, "error", err, "in", wait.String())
		if !sleep(ctx, wait) {
			return
		}
	}
}

// supervise serves a listener and reports when that ends other than by its server's being stopped.
func (r *replica) supervise(name string, serve func() error) {
	if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
		r.failed <- fmt.Errorf("%s server: %w", name, err)
	}
}

// abandon gives everything back when the start fails before there was anything to drain.
func (r *replica) abandon() {
	r.stop()
	r.stopWork()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for i := range r.app.closers {
		c := r.app.closers[len(r.app.closers)-1-i]
		if err := c.run(ctx); err != nil {
			r.app.log.Warn("close failed", "name", c.name, "error", err)
		}
	}
	if r.app.server != nil {
		r.app.server.Stop()
	}
	for _, h := range r.app.https {
		if h.listener != nil {
			_ = h.listener.Close() // nothing was served on it
		}
	}
	if r.admin != nil {
		_ = r.admin.Close()
	}
	for _, l := range []net.Listener{r.grpcListener, r.adminListener} {
		if l != nil {
			_ = l.Close()
		}
	}
	if err := r.app.telemetry.Shutdown(ctx); err != nil {
		r.app.log.Warn("telemetry could not be flushed", "error", err)
	}
}

func listen(variable, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s=%q (give a free address of this host): %w", variable, addr, err)
	}
	return l, nil
}

// seed gives each replica its own, reproducible sequence of service times.
func seed(service, instance string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, service+"/"+instance) // a hash takes everything
	return h.Sum64()
}

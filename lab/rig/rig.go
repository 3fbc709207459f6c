// Package rig is a local mesh with everything that observes and steers it: the
// engine, the metrics store, Kubernetes' autoscaler and the faults. `spillway up`
// and every variant of an experiment run one.
package rig

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/coordination"
	"spillway.dev/lab/engine/local"
	"spillway.dev/lab/fault"
	"spillway.dev/lab/metrics"
	"spillway.dev/lab/metrics/kubestate"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// Where the rules are, below the root: the same files that a cluster mounts.
const (
	recordingRules    = "k8s/observability/prometheus/rules/mesh.yaml"
	coordinationRules = coordination.RulesFile
	alertingRules     = "k8s/observability/prometheus/rules/alerts.yaml"
	budgetRules       = "k8s/observability/prometheus/rules/slo.yaml"
	metricsRules      = "k8s/observability/prometheus-adapter/config.yaml"
)

// ruleFiles are the rules that are evaluated. Those of the error budget look back
// on hours and days: a mesh that stays has them, whose series are with its state
// and outlast a restart. An experiment (metricsDir is its own) begins without any
// series and is over in minutes; it is judged by what it expects.
func ruleFiles(root, metricsDir string) []string {
	files := []string{filepath.Join(root, recordingRules), filepath.Join(root, coordinationRules), filepath.Join(root, alertingRules)}
	if metricsDir == "" {
		files = append(files, filepath.Join(root, budgetRules))
	}
	return files
}

// lastScrape bounds the wait of a replica for its last scrape. It is longer than
// the longest interval between two, and with a drain shorter than the grace period.
const lastScrape = "SPILLWAY_DRAIN_LAST_SCRAPE=15s"

// Options say what to run.
type Options struct {
	// Engine is about the mesh. Its Register and Timelapse belong to the rig.
	Engine local.Options
	// Timelapse divides the durations of autoscaler, metrics rules and nodes; 0
	// stands for 1.
	Timelapse float64
	// Scrape is the nominal time between two scrapes of a replica; 0 stands for
	// metrics' own.
	Scrape time.Duration
	// ReadToEnd has every replica that drains wait until the metrics store has read
	// its last figures: sums over replicas that come and go are then whole.
	ReadToEnd bool
	// MetricsDir keeps the series; it outlives the rig. Empty stands for metrics
	// in the state directory, and has alerts on the error budget evaluated too.
	MetricsDir string
	Log        *slog.Logger
}

// Rig is a running mesh and what is around it. Its parts are safe for concurrent
// use.
type Rig struct {
	Engine     *local.Engine
	Metrics    *metrics.Store
	Autoscaler *autoscaler.Autoscaler
	Faults     *fault.Injector

	readToEnd   bool
	conn        *grpc.ClientConn // to the control plane
	stop        context.CancelFunc
	background  sync.WaitGroup
	stopScaling context.CancelFunc
	scaling     sync.WaitGroup
	once        sync.Once
	ended       error
}

// Up starts a mesh and everything around it; Engine.WaitReady waits for its
// replicas. When Up fails nothing is left running.
func Up(ctx context.Context, options Options) (*Rig, error) {
	if options.Timelapse == 0 {
		options.Timelapse = 1
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	scaling, stopScaling := context.WithCancel(background)
	r := &Rig{stop: stop, stopScaling: stopScaling, readToEnd: options.ReadToEnd}
	engine := options.Engine
	if options.ReadToEnd {
		engine.Env = append(slices.Clone(engine.Env), lastScrape)
	}
	engine.Timelapse = options.Timelapse
	engine.Register = func(e *local.Engine, to grpc.ServiceRegistrar) error {
		r.Engine = e
		return r.wire(ctx, background, scaling, options, to)
	}
	// Who runs by now reads r.Engine: it is set before them, and never again.
	if _, err := local.Up(ctx, engine); err != nil {
		return nil, errors.Join(err, r.end())
	}
	return r, nil
}

// wire starts what is around the engine, which has everything but replicas.
func (r *Rig) wire(ctx, background, scaling context.Context, options Options, to grpc.ServiceRegistrar) error {
	root := options.Engine.Root
	dir := options.MetricsDir
	if dir == "" {
		dir = filepath.Join(options.Engine.StateDir, "metrics")
	}
	var err error
	r.Metrics, err = metrics.Open(ctx, metrics.Config{
		Dir:            dir,
		RuleFiles:      ruleFiles(root, options.MetricsDir),
		ScrapeInterval: options.Scrape,
		Timelapse:      options.Timelapse,
		Log:            options.Log,
	})
	if err != nil {
		return err
	}
	r.Engine.SetPrometheusURL(r.Metrics.URL())
	cluster := autoscaler.Cluster{
		Snapshot:    func() autoscaler.Snapshot { return autoscaler.Snapshot(r.Engine.Snapshot()) },
		Changed:     r.Engine.Changed,
		SetReplicas: r.Engine.SetReplicas,
	}
	r.Autoscaler, err = autoscaler.New(autoscaler.Config{
		Timelapse: options.Timelapse,
		Rules:     filepath.Join(root, metricsRules),
		Log:       options.Log,
	}, cluster, r.Metrics.Query)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(kubestate.New(r.objects)); err != nil {
		return fmt.Errorf("metrics of Kubernetes' objects: %w", err)
	}
	paid := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spillway_nodes_paid",
		Help: "Nodes that cost: those that are there, and those that were asked for.",
	}, func() float64 { return float64(r.Engine.NodesPaid()) })
	if err := registry.Register(paid); err != nil {
		return fmt.Errorf("metrics of nodes: %w", err)
	}
	r.Metrics.Gatherer("kube-state-metrics", registry)
	host := prometheus.NewRegistry()
	if err := host.Register(newHost()); err != nil {
		return fmt.Errorf("metrics of the host: %w", err)
	}
	r.Metrics.Gatherer("host", host)

	r.conn, err = grpc.NewClient(r.Engine.KnobTarget(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("reach the control plane: %w", err)
	}
	r.Faults = fault.NewInjector(r.Engine, knobv1.NewKnobServiceClient(r.conn), options.Log)

	autoscalerv1.RegisterAutoscalerServiceServer(to, r.Autoscaler)
	faultv1.RegisterFaultServiceServer(to, r.Faults.Server())

	r.background.Go(func() { r.follow(background) })
	r.scaling.Go(func() {
		if err := r.Autoscaler.Run(scaling); err != nil {
			options.Log.Error("the autoscaler ended", "error", err)
		}
	})
	return nil
}

// objects are Kubernetes' objects with the status that the autoscaler gave its
// own.
func (r *Rig) objects() kubestate.Objects {
	s := r.Engine.Snapshot()
	return kubestate.Objects{Pods: s.Pods, Deployments: s.Deployments, HPAs: r.Autoscaler.HPAs(), Nodes: s.Nodes}
}

// follow has the metrics store scrape whatever runs.
func (r *Rig) follow(ctx context.Context) {
	var last []local.Target
	for {
		changed := r.Engine.Changed()
		if targets := r.Engine.Targets(); last == nil || !slices.Equal(last, targets) {
			last = targets
			scrape := make([]metrics.Target, 0, len(targets))
			for _, t := range targets {
				scrape = append(scrape, metrics.Target{Address: t.Address, Labels: map[string]string{
					"namespace": local.Namespace, "pod": t.Pod, "service": t.Service, "node": t.Node,
				}})
			}
			r.Metrics.SetTargets(scrape)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Down puts faults and knobs back, drains and stops the mesh, and then what is
// around it: what is read of the end of the mesh is kept. When ctx ends first
// the rest is killed. Further calls wait for the first and return what it
// returned.
func (r *Rig) Down(ctx context.Context) error {
	r.once.Do(func() {
		r.stopScaling() // a mesh that drains is not scaled
		r.scaling.Wait()
		r.ended = errors.Join(r.Faults.Close(ctx), r.stopMesh(ctx), r.end())
	})
	return r.ended
}

// stopMesh drains and stops the mesh.
func (r *Rig) stopMesh(ctx context.Context) error {
	if !r.readToEnd {
		return r.Engine.Down(ctx)
	}
	// Nobody needs the last figures of a mesh that ends, and one stage of it after
	// the other would wait for a scrape.
	reading, stop := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() { dismiss(reading, r.Engine.Targets) })
	err := r.Engine.Down(ctx)
	stop()
	reader.Wait()
	return err
}

// end stops what is around the engine.
func (r *Rig) end() error {
	r.stop()
	r.scaling.Wait()
	r.background.Wait()
	var errs []error
	if r.Metrics != nil {
		errs = append(errs, r.Metrics.Close())
	}
	if r.conn != nil {
		errs = append(errs, r.conn.Close())
	}
	return errors.Join(errs...)
}

// Package autoscaler runs Kubernetes' own HorizontalPodAutoscaler controller
// on a local mesh: pods, Deployments and HPAs are the engine's, metrics come
// from PromQL by the rules that the cluster's metrics adapter uses, and
// replicas are set through the engine. What scales how far and when is decided
// by k8s.io/kubernetes/pkg/controller/podautoscaler alone.
package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"

	"spillway.dev/lab/autoscaler/adapter"
	"spillway.dev/lab/metrics/timelapse"
	"spillway.dev/platform/metricsrules"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

// Snapshot is the Kubernetes objects of a mesh at one moment, each with its
// apiVersion and kind, field by field as the local engine tells them. The autoscaler keeps them and changes none of
// them: whoever gives them must not either.
type Snapshot struct {
	Pods        []*corev1.Pod
	Deployments []*appsv1.Deployment
	HPAs        []*autoscalingv2.HorizontalPodAutoscaler
	Nodes       []*corev1.Node
	// Revision grows with every change.
	Revision uint64
}

// Cluster is what the autoscaler needs of a mesh. All three are called
// concurrently.
type Cluster struct {
	Snapshot func() Snapshot
	// Changed returns a channel that is closed at the next change.
	Changed func() <-chan struct{}
	// SetReplicas sets a Deployment's replicas and returns what they were.
	SetReplicas func(deployment string, replicas int) (previous int, err error)
}

// Config says how the controller runs. The flags of kube-controller-manager
// that it names have Kubernetes' defaults where they are zero.
type Config struct {
	// Timelapse divides every duration: those below, and those in the
	// behaviour of HPAs and in the metrics rules. 0 means 1.
	Timelapse float64
	// Rules is the path of the metrics rules, in prometheus-adapter's format.
	Rules string

	// Sync is the time between two looks at an HPA (15 s).
	Sync time.Duration
	// DownscaleStabilization is how long back the highest recommendation
	// counts where an HPA does not say (5 min).
	DownscaleStabilization time.Duration
	// Tolerance is the deviation from 1 of the ratio of metric to target at
	// which nothing is done, where an HPA does not say (0.1).
	Tolerance float64
	// CPUInitialization is how long after a pod's start its CPU counts only
	// while it is ready (5 min).
	CPUInitialization time.Duration
	// InitialReadinessDelay is how long after a pod's start a change from ready
	// to unready is still taken for the start itself (30 s).
	InitialReadinessDelay time.Duration

	// Log may be nil.
	Log *slog.Logger
}

// withDefaults fills what is zero and divides by the time-lapse.
func (c Config) withDefaults() Config {
	if c.Timelapse == 0 {
		c.Timelapse = 1
	}
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
		*d = time.Duration(float64(*d) / c.Timelapse)
	}
	or(&c.Sync, 15*time.Second)
	or(&c.DownscaleStabilization, 5*time.Minute)
	or(&c.CPUInitialization, 5*time.Minute)
	or(&c.InitialReadinessDelay, 30*time.Second)
	if c.Tolerance == 0 {
		c.Tolerance = 0.1
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// workers is how many HPAs are looked at at once: Kubernetes' default.
const workers = 5

// Autoscaler is the controller and what it acts on. Its methods may be called
// concurrently, before, during and after Run.
type Autoscaler struct {
	autoscalerv1.UnimplementedAutoscalerServiceServer

	config   Config
	cluster  Cluster
	mirror   *mirror
	adapter  *metricsrules.Adapter
	events   *Journal[Event]
	rescales *Journal[Rescale]
	started  atomic.Bool
}

// leastWindow is the shortest range that time-lapse makes of one in the metrics
// rules: the metrics store scrapes twice a second at most, and a rate needs some
// scrapes.
const leastWindow = 2 * time.Second

// New reads the metrics rules. Metrics come from query, which may fail for as
// long as it likes: the HPAs say so and the replicas stay as they are.
func New(config Config, cluster Cluster, query adapter.Query) (*Autoscaler, error) {
	if config.Timelapse != 0 && !(config.Timelapse >= 1) {
		return nil, fmt.Errorf("autoscaler: Timelapse is %v; give a factor from 1 on", config.Timelapse)
	}
	config = config.withDefaults()
	text, err := os.ReadFile(config.Rules)
	if err != nil {
		return nil, fmt.Errorf("autoscaler: metrics rules: %w", err)
	}
	rules, err := metricsrules.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("autoscaler: metrics rules %s: %w", config.Rules, err)
	}
	lapse := timelapse.Lapse{By: config.Timelapse, Window: leastWindow}
	metricsAdapter, err := adapter.New(rules, query, lapse)
	if err != nil {
		return nil, fmt.Errorf("autoscaler: metrics rules %s: %w", config.Rules, err)
	}
	a := &Autoscaler{
		config:   config,
		cluster:  cluster,
		adapter:  metricsAdapter,
		events:   newJournal[Event](),
		rescales: newJournal[Rescale](),
	}
	a.mirror = newMirror(a.prepare)
	a.mirror.apply(cluster.Snapshot())
	return a, nil
}

// Run scales until the context ends, and what it started ends then too. It runs
// once.
func (a *Autoscaler) Run(ctx context.Context) error {
	if a.started.Swap(true) {
		return errors.New("autoscaler: Run was called before: make a new one")
	}
	ctx = klog.NewContext(ctx, logr.New(&tap{log: a.config.Log, event: a.events.Add, rescale: a.rescaled}))
	controller := podautoscaler.NewHorizontalController(
		ctx,
		discardEvents{},
		scales{a},
		hpaClients{a.mirror},
		metricsrules.Mapper(),
		metrics.NewRESTMetricsClient(resourceMetrics{a}, customMetrics{a, ctx}, externalMetrics{a, ctx}),
		hpaInformer{a.mirror.hpas},
		podInformer{a.mirror.pods},
		a.config.Sync,
		a.config.DownscaleStabilization,
		a.config.Tolerance,
		a.config.CPUInitialization,
		a.config.InitialReadinessDelay,
	)
	var running sync.WaitGroup
	running.Go(func() { controller.Run(ctx, workers) })
	a.follow(ctx)
	running.Wait()
	return nil
}

// catchUp bounds how often a mesh that changes all the time is copied: sixty
// replicas that start at once change it some hundred times a second.
const catchUp = 20 * time.Millisecond

// follow keeps the mirror in step with the cluster.
func (a *Autoscaler) follow(ctx context.Context) {
	for {
		changed := a.cluster.Changed()
		a.mirror.apply(a.cluster.Snapshot())
		// A change after a rest is seen at once, and of a rush one in this time.
		select {
		case <-ctx.Done():
			return
		case <-time.After(catchUp):
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// HPAs returns the HPAs as the controller sees them, status and conditions
// included, by name. Their durations are divided by the time-lapse.
func (a *Autoscaler) HPAs() []*autoscalingv2.HorizontalPodAutoscaler {
	return a.mirror.listHPAs()
}

// Events is what happened, such as SuccessfulRescale and
// FailedGetResourceMetric, every time it happened: Kubernetes' own merging and
// its limit of 25 events an object come after it. Others may add to it.
func (a *Autoscaler) Events() *Journal[Event] { return a.events }

// Rescales is what the controller changed.
func (a *Autoscaler) Rescales() *Journal[Rescale] { return a.rescales }

// rescaled completes a rescale by what it was about, and keeps it.
func (a *Autoscaler) rescaled(r Rescale) {
	r.Target = a.mirror.target(r.Autoscaler)
	a.rescales.Add(r)
}

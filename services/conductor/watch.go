package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"spillway.dev/platform/mesh"
)

// settle is how long changes are gathered after one that was told at once: a rolling update changes an EndpointSlice
// several times a second, and every state goes to every caller.
const settle = 50 * time.Millisecond

// watcher keeps a control plane in step with a namespace. What it knows stays when the API server is away: the informers
// keep their objects, and read all of them anew when it is back.
type watcher struct {
	log     *slog.Logger
	plane   *mesh.ControlPlane
	metrics *watchMetrics

	factories []informers.SharedInformerFactory
	synced    []cache.InformerSynced
	services  corelisters.ServiceLister
	slices    discoverylisters.EndpointSliceLister
	controls  corelisters.ConfigMapLister
	namespace string

	changed chan struct{} // has room for one: something has changed since it was read
	told    chan struct{} // closed when the control plane has its first state

	// The rest is for the one goroutine that tells.
	updates    mesh.Updates
	valid      mesh.Controls // the latest that were allowed
	first      sync.Once
	complaints map[string]string // what was last said about each thing that is wrong, so that it is said once
}

func newWatcher(client kubernetes.Interface, namespace string, plane *mesh.ControlPlane, metrics *watchMetrics, log *slog.Logger) (*watcher, error) {
	all := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	// Of the ConfigMaps one alone, so that the right to read the others is not needed.
	one := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, mesh.ControlsName).String()
		}))
	services, slices, controls := all.Core().V1().Services(), all.Discovery().V1().EndpointSlices(), one.Core().V1().ConfigMaps()
	w := &watcher{
		log: log, plane: plane, metrics: metrics, namespace: namespace,
		factories: []informers.SharedInformerFactory{all, one},
		services:  services.Lister(), slices: slices.Lister(), controls: controls.Lister(),
		changed: make(chan struct{}, 1), told: make(chan struct{}), complaints: map[string]string{},
	}
	for kind, informer := range map[string]cache.SharedIndexInformer{
		"services": services.Informer(), "endpointslices": slices.Informer(), "configmaps": controls.Informer(),
	} {
		handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { w.kick() }, UpdateFunc: func(any, any) { w.kick() }, DeleteFunc: func(any) { w.kick() },
		})
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", kind, err)
		}
		if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
			metrics.errors.WithLabelValues(kind).Inc()
			cache.DefaultWatchErrorHandler(ctx, r, err)
		}); err != nil {
			return nil, fmt.Errorf("watch %s: %w", kind, err)
		}
		w.synced = append(w.synced, handler.HasSynced)
	}
	return w, nil
}

func (w *watcher) kick() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// run watches until ctx ends, and returns when all that it started has ended.
func (w *watcher) run(ctx context.Context) {
	for _, factory := range w.factories {
		factory.StartWithContext(ctx)
	}
	if cache.WaitForCacheSync(ctx.Done(), w.synced...) {
		w.follow(ctx)
	}
	for _, factory := range w.factories {
		factory.Shutdown()
	}
}

// ready waits until the control plane knows the mesh, which it does not before the first of all lists.
func (w *watcher) ready(ctx context.Context) error {
	select {
	case <-w.told:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("namespace %q has not been read, or has no Service with a port %q: %w", w.namespace, mesh.PortName, ctx.Err())
	}
}

// follow tells the control plane of changes: of the first at once, of those that follow within settle together. It ends
// with ctx.
func (w *watcher) follow(ctx context.Context) {
	for {
		next := w.tell(time.Now())
		if !wait(ctx, settle) {
			return
		}
		var due <-chan time.Time // of what is under way, late
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-w.changed:
		case <-due:
		case <-ctx.Done():
			return
		}
	}
}

// wait tells whether d has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell makes what the informers have the state of the mesh. It returns when there will be more to tell though nothing
// changes until then, or zero.
func (w *watcher) tell(now time.Time) time.Time {
	services, err := w.services.Services(w.namespace).List(labels.Everything())
	if err != nil {
		w.complain("services", err)
		return time.Time{}
	}
	slices, err := w.slices.EndpointSlices(w.namespace).List(labels.Everything())
	if err != nil {
		w.complain("endpointslices", err)
		return time.Time{}
	}
	w.read(now)
	shown, next := w.updates.Pass(now, listsOf(services, slices))
	state, wrong := stateOf(services, shown, w.valid)
	w.complain("annotations", errors.Join(wrong...))
	if err := w.plane.Set(state); err != nil {
		w.metrics.refused.Inc()
		w.complain("state", err)
		return next
	}
	w.complain("state", nil)
	w.metrics.told.Inc()
	w.metrics.services.Set(float64(len(state.Services)))
	w.metrics.endpoints.Reset()
	for _, service := range state.Services {
		w.metrics.endpoints.WithLabelValues(service.Name).Set(float64(len(service.Endpoints)))
	}
	w.first.Do(func() { close(w.told) })
	return next
}

// read takes over the controls. Those that are not allowed are not: the ones before them hold.
func (w *watcher) read(now time.Time) {
	var document []byte
	if found, err := w.controls.ConfigMaps(w.namespace).Get(mesh.ControlsName); err == nil {
		document = []byte(found.Data[mesh.ControlsKey])
	}
	controls, err := mesh.ParseControls(document)
	w.complain("controls", err)
	if err != nil {
		w.metrics.refused.Inc()
		return
	}
	w.valid = controls
	w.updates.Set(now, controls.Endpoints)
}

// complain says once what is wrong with something, and once that it no longer is.
func (w *watcher) complain(about string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == w.complaints[about] {
		return
	}
	w.complaints[about] = text
	if err != nil {
		w.log.Error("what the cluster says is not allowed, what held before holds on", "about", about, "error", err)
	} else {
		w.log.Info("what the cluster says is allowed again", "about", about)
	}
}

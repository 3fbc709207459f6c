package autoscaler

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/cache"
)

// Namespace is that of objects whose manifest names none.
const Namespace = "spillway"

// mirror holds the objects of the cluster where the controller's listers read
// them. It stands where client-go's fake clientset could: that one neither
// defaults nor validates, its watches panic when a hundred events wait, and it
// takes milliseconds for a pod.
type mirror struct {
	// prepare turns an HPA of the cluster into the one that is acted on, or says
	// why it cannot be.
	prepare func(*autoscalingv2.HorizontalPodAutoscaler) (*autoscalingv2.HorizontalPodAutoscaler, error)

	pods *shelf
	hpas *shelf

	mu          sync.Mutex
	applied     bool
	revision    uint64
	deployments map[string]*appsv1.Deployment // by key
	nodes       []*corev1.Node
	sources     map[string]*autoscalingv2.HorizontalPodAutoscaler // by key: as the cluster has them
}

func newMirror(prepare func(*autoscalingv2.HorizontalPodAutoscaler) (*autoscalingv2.HorizontalPodAutoscaler, error)) *mirror {
	return &mirror{
		prepare:     prepare,
		pods:        newShelf(),
		hpas:        newShelf(),
		deployments: map[string]*appsv1.Deployment{},
		sources:     map[string]*autoscalingv2.HorizontalPodAutoscaler{},
	}
}

// key is what client-go's cache calls an object.
func key(o metav1.Object) string {
	namespace := o.GetNamespace()
	if namespace == "" {
		namespace = Namespace
	}
	return namespace + "/" + o.GetName()
}

// apply makes the mirror look like the snapshot. HPAs keep their status.
func (m *mirror) apply(s Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.applied && s.Revision == m.revision {
		return
	}
	m.applied, m.revision = true, s.Revision
	m.nodes = s.Nodes
	m.deployments = make(map[string]*appsv1.Deployment, len(s.Deployments))
	for _, d := range s.Deployments {
		m.deployments[key(d)] = d
	}
	m.pods.replace(s.Pods)

	gone := maps.Clone(m.sources)
	for _, source := range s.HPAs {
		k := key(source)
		delete(gone, k)
		if before := m.sources[k]; before != nil && sameHPA(before, source) {
			continue
		}
		m.sources[k] = source.DeepCopy()
		next, err := m.prepare(source)
		if err != nil {
			m.hpas.remove(k)
			continue
		}
		if before, ok := m.hpas.get(k).(*autoscalingv2.HorizontalPodAutoscaler); ok {
			next.ObjectMeta.UID = before.UID
			next.CreationTimestamp = before.CreationTimestamp
			next.Generation = before.Generation + 1
			next.Status = before.Status
		} else {
			next.Generation = 1
			if next.UID == "" {
				next.UID = uuid.NewUUID()
			}
			if next.CreationTimestamp.IsZero() {
				next.CreationTimestamp = metav1.Time{Time: time.Now()}
			}
		}
		m.hpas.put(k, next)
	}
	for k := range gone {
		delete(m.sources, k)
		m.hpas.remove(k)
	}
}

// sameHPA tells whether two HPAs of the cluster ask for the same. Their status
// is the controller's affair.
func sameHPA(a, b *autoscalingv2.HorizontalPodAutoscaler) bool {
	return apiequality.Semantic.DeepEqual(a.Spec, b.Spec) &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations)
}

// setStatus writes an HPA's status alone, as the API's status subresource does:
// a spec that has changed meanwhile stays. It returns nil for one that is gone.
func (m *mirror) setStatus(k string, status autoscalingv2.HorizontalPodAutoscalerStatus) *autoscalingv2.HorizontalPodAutoscaler {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, ok := m.hpas.get(k).(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil
	}
	next := before.DeepCopy()
	status.DeepCopyInto(&next.Status)
	m.hpas.put(k, next)
	return next
}

func (m *mirror) deployment(k string) *appsv1.Deployment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deployments[k]
}

// target is the name of what an HPA scales, empty for one that is gone.
func (m *mirror) target(name string) string {
	for _, hpa := range m.listHPAs() {
		if hpa.Name == name {
			return hpa.Spec.ScaleTargetRef.Name
		}
	}
	return ""
}

// listHPAs returns copies, by name.
func (m *mirror) listHPAs() []*autoscalingv2.HorizontalPodAutoscaler {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*autoscalingv2.HorizontalPodAutoscaler
	for _, o := range m.hpas.List() {
		list = append(list, o.(*autoscalingv2.HorizontalPodAutoscaler).DeepCopy())
	}
	slices.SortFunc(list, func(a, b *autoscalingv2.HorizontalPodAutoscaler) int { return strings.Compare(key(a), key(b)) })
	return list
}

// shelf is one kind of object for a lister: the store that an informer would
// fill, and its handlers. Its objects are never changed, only replaced.
type shelf struct {
	cache.Indexer

	mu       sync.Mutex
	handlers []cache.ResourceEventHandler
}

func newShelf() *shelf {
	return &shelf{Indexer: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{
		cache.NamespaceIndex: cache.MetaNamespaceIndexFunc,
	})}
}

func (s *shelf) get(k string) any {
	// A map under a lock gives no errors.
	o, _, _ := s.GetByKey(k)
	return o
}

func (s *shelf) put(k string, o any) {
	before := s.get(k)
	s.must(s.Update(o))
	for _, h := range s.listeners() {
		if before == nil {
			h.OnAdd(o, false)
		} else {
			h.OnUpdate(before, o)
		}
	}
}

func (s *shelf) remove(k string) {
	before := s.get(k)
	if before == nil {
		return
	}
	s.must(s.Delete(before))
	for _, h := range s.listeners() {
		h.OnDelete(before)
	}
}

// replace swaps all objects and tells nobody: the controller only reads pods.
func (s *shelf) replace(pods []*corev1.Pod) {
	all := make([]any, len(pods))
	for i, p := range pods {
		all[i] = p
	}
	s.must(s.Replace(all, ""))
}

// must stops at an object without metadata, which only a mistake in this
// package can bring.
func (s *shelf) must(err error) {
	if err != nil {
		panic(err)
	}
}

// listen adds a handler, which is told of what is there already.
func (s *shelf) listen(h cache.ResourceEventHandler) {
	s.mu.Lock()
	s.handlers = append(s.handlers, h)
	s.mu.Unlock()
	for _, o := range s.List() {
		h.OnAdd(o, true)
	}
}

func (s *shelf) listeners() []cache.ResourceEventHandler {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.handlers)
}

package autoscaler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"spillway.dev/lab/autoscaler"
)

// demo is a cluster with one Deployment, "demo", and a metrics store. Its pods
// ask for one core; the first ones have been ready for an hour.
type demo struct {
	t *testing.T

	mu       sync.Mutex
	changed  chan struct{}
	revision uint64
	pods     []*pod
	wanted   int
	gone     bool // the Deployment
	hpas     []*autoscalingv2.HorizontalPodAutoscaler
	refuse   error // what SetReplicas says

	// starts is how long a new pod takes to be ready, pending how long of that it
	// is Pending.
	starts, pending time.Duration

	series []series
	away   error // what the metrics store says
}

type pod struct {
	name        string
	start       time.Time
	ready       bool
	readySince  time.Time
	phase       corev1.PodPhase
	terminating bool
}

// series is a metric as it is now; value is asked at every query, and false
// means that there is none.
type series struct {
	name   string
	labels map[string]string
	value  func() (float64, bool)
}

func newDemo(t *testing.T, replicas int, hpas ...string) *demo {
	d := &demo{t: t, changed: make(chan struct{})}
	for _, text := range hpas {
		d.hpas = append(d.hpas, hpa(t, text))
	}
	d.wanted = replicas
	for range replicas {
		p := d.add()
		p.start, p.readySince = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
		p.ready, p.phase = true, corev1.PodRunning
	}
	return d
}

// hpa reads the spec of an HPA that scales demo.
func hpa(t *testing.T, spec string) *autoscalingv2.HorizontalPodAutoscaler {
	t.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: autoscaler.Namespace}}
	if err := yaml.UnmarshalStrict([]byte(spec), &h.Spec); err != nil {
		t.Fatal(err)
	}
	h.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "demo"}
	return h
}

// add makes a pod, which has just been created.
func (d *demo) add() *pod {
	p := &pod{name: fmt.Sprintf("demo-%d", len(d.pods)+1), start: time.Now(), readySince: time.Now(), phase: corev1.PodPending}
	d.pods = append(d.pods, p)
	return p
}

// change changes the cluster and tells it.
func (d *demo) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	d.revision++
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *demo) cluster() autoscaler.Cluster {
	return autoscaler.Cluster{
		Snapshot: d.snapshot,
		Changed: func() <-chan struct{} {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.changed
		},
		SetReplicas: d.setReplicas,
	}
}

func (d *demo) setReplicas(_ string, n int) (previous int, err error) {
	d.change(func() {
		if err = d.refuse; err != nil {
			return
		}
		previous, d.wanted = d.wanted, n
		for len(d.pods) > n {
			d.pods = d.pods[:len(d.pods)-1]
		}
		for len(d.pods) < n {
			d.start(d.add())
		}
	})
	return previous, err
}

// start brings a new pod to life. mu is held.
func (d *demo) start(p *pod) {
	if d.starts == 0 {
		p.phase, p.ready = corev1.PodRunning, true
		return
	}
	time.AfterFunc(d.pending, func() { d.change(func() { p.phase, p.start = corev1.PodRunning, time.Now() }) })
	time.AfterFunc(d.starts, func() {
		d.change(func() { p.phase, p.ready, p.readySince = corev1.PodRunning, true, time.Now() })
	})
}

func (d *demo) snapshot() autoscaler.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := autoscaler.Snapshot{Revision: d.revision}
	app := map[string]string{"app": "demo"}
	ready := int32(0)
	for _, p := range d.pods {
		s.Pods = append(s.Pods, p.object(app))
		if p.ready {
			ready++
		}
	}
	if !d.gone {
		wanted := int32(d.wanted)
		s.Deployments = append(s.Deployments, &appsv1.Deployment{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
			ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: autoscaler.Namespace},
			Spec:       appsv1.DeploymentSpec{Replicas: &wanted, Selector: &metav1.LabelSelector{MatchLabels: app}},
			Status:     appsv1.DeploymentStatus{Replicas: int32(len(d.pods)), ReadyReplicas: ready},
		})
	}
	for _, h := range d.hpas {
		s.HPAs = append(s.HPAs, h.DeepCopy())
	}
	return s
}

func (p *pod) object(app map[string]string) *corev1.Pod {
	asks := func(cores string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cores)}}
	}
	status := corev1.ConditionFalse
	if p.ready {
		status = corev1.ConditionTrue
	}
	start := metav1.NewTime(p.start)
	o := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: p.name, Namespace: autoscaler.Namespace, Labels: app, CreationTimestamp: start},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "application", Resources: asks("1")}, {Name: "sidecar", Resources: asks("0")},
		}},
		Status: corev1.PodStatus{Phase: p.phase, StartTime: &start, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(p.readySince)},
		}},
	}
	if p.terminating {
		o.DeletionTimestamp = &start
	}
	return o
}

// each adds a metric of every pod of demo: value is given its place, from 0 on.
func (d *demo) each(name string, value func(i int, p *pod) (float64, bool)) {
	d.eachOf(name, "", value)
}

// eachOf is each for one container.
func (d *demo) eachOf(name, container string, value func(i int, p *pod) (float64, bool)) {
	for i := range 200 {
		labels := map[string]string{"pod": fmt.Sprintf("demo-%d", i+1), "namespace": autoscaler.Namespace}
		if container != "" {
			labels["container"] = container
		}
		d.series = append(d.series, series{name: name, labels: labels, value: func() (float64, bool) {
			d.mu.Lock()
			defer d.mu.Unlock()
			at := slices.IndexFunc(d.pods, func(p *pod) bool { return p.name == labels["pod"] })
			if at < 0 {
				return 0, false
			}
			return value(at, d.pods[at])
		}})
	}
}

// usage adds CPU of every pod, as cores that the application uses; memory is
// always there, because a pod has metrics only with both.
func (d *demo) usage(cores func(i int, p *pod) (float64, bool)) {
	d.eachOf("cpu_cores", "application", cores)
	d.eachOf("memory_bytes", "application", func(int, *pod) (float64, bool) { return 1 << 20, true })
}

// one adds a metric that is of no pod.
func (d *demo) one(name string, labels map[string]string, value func() float64) {
	d.series = append(d.series, series{name: name, labels: labels, value: func() (float64, bool) { return value(), true }})
}

// query is the metrics store: Prometheus' engine over the series.
func (d *demo) query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	d.mu.Lock()
	away := d.away
	d.mu.Unlock()
	if away != nil {
		return nil, away
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	q, err := engine.NewInstantQuery(ctx, storage.QueryableFunc(func(int64, int64) (storage.Querier, error) {
		return querier{all: d.series, at: at}, nil
	}), nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	return q.Exec(ctx).Vector()
}

// querier reads the values of now.
type querier struct {
	storage.LabelQuerier
	all []series
	at  time.Time
}

func (q querier) Close() error { return nil }

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, s := range q.all {
		b := labels.NewBuilder(labels.FromMap(s.labels))
		b.Set("__name__", s.name)
		all := b.Labels()
		if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(all.Get(m.Name)) }) {
			continue
		}
		if value, ok := s.value(); ok {
			found = append(found, storage.NewListSeries(all, []chunks.Sample{sample{q.at.UnixMilli(), value}}))
		}
	}
	return &seriesSet{all: found}
}

type seriesSet struct {
	all  []storage.Series
	next int
}

func (s *seriesSet) Next() bool                        { s.next++; return s.next <= len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// run starts the autoscaler and returns it; it ends with the test. It must be
// called in a bubble.
func (d *demo) run(config autoscaler.Config) *autoscaler.Autoscaler {
	d.t.Helper()
	if config.Rules == "" {
		config.Rules = "testdata/rules.yaml"
	}
	a, err := autoscaler.New(config, d.cluster(), d.query)
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(d.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			d.t.Error(err)
		}
	})
	d.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return a
}

// told is the changes of replicas as text: "15s 1→4, 75s 4→7".
func told(a *autoscaler.Autoscaler, began time.Time) string {
	rescales, _, _ := a.Rescales().After(0)
	var all []string
	for _, r := range rescales {
		all = append(all, fmt.Sprintf("%v %d→%d", r.At.Sub(began).Round(time.Millisecond), r.From, r.To))
	}
	return strings.Join(all, ", ")
}

// reasons is the events' reasons, each with how often it was told.
func reasons(a *autoscaler.Autoscaler) map[string]int {
	events, _, _ := a.Events().After(0)
	count := map[string]int{}
	for _, e := range events {
		count[e.Reason]++
	}
	return count
}

// condition is the reason of one condition of demo's HPA.
func condition(a *autoscaler.Autoscaler, kind autoscalingv2.HorizontalPodAutoscalerConditionType) string {
	for _, h := range a.HPAs() {
		for _, c := range h.Status.Conditions {
			if c.Type == kind {
				return string(c.Status) + " " + c.Reason
			}
		}
	}
	return ""
}

// pass lets time go by, in a bubble.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errAway = errors.New("connection refused")

// sample is one value at one time.
type sample struct {
	t int64
	f float64
}

func (s sample) T() int64                    { return s.t }
func (s sample) ST() int64                   { return 0 }
func (s sample) F() float64                  { return s.f }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType    { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }

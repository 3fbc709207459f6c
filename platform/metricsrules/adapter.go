// Package metricsrules answers Kubernetes' metrics APIs from PromQL, by the rules of
// prometheus-adapter's configuration format. It follows
// sigs.k8s.io/prometheus-adapter v0.12 in what is asked and what is an error;
// series are looked for when a metric is first asked for, not on a schedule.
//
// It knows no metrics store: the lab asks one in its own process, a cluster's control plane asks Prometheus.
package metricsrules

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	external "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Sample is one value of an instant vector.
type Sample struct {
	// Labels are all that the value has, __name__ among them where it has one.
	Labels map[string]string
	Value  float64
}

// Query evaluates PromQL at a time, as a metrics store does. It is called
// concurrently.
type Query func(ctx context.Context, promql string, at time.Time) ([]Sample, error)

// Dialect is what is done to rules and queries before a store sees them. Its methods are called concurrently.
type Dialect interface {
	// CheckSelector says what is wrong with a rule's seriesQuery, which is not empty.
	CheckSelector(query string) error
	// Query returns the query that is asked in place of one that a rule's template came to, or what is wrong with it.
	Query(query string) (string, error)
	// Window returns the range that CPU and memory are averaged over, in place of the one that the rules tell.
	Window(time.Duration) time.Duration
}

// Plain takes rules and queries as they are written: the store says what is wrong with them.
type Plain struct{}

var _ Dialect = Plain{}

// CheckSelector implements Dialect.
func (Plain) CheckSelector(string) error { return nil }

// Query implements Dialect.
func (Plain) Query(query string) (string, error) { return query, nil }

// Window implements Dialect.
func (Plain) Window(window time.Duration) time.Duration { return window }

// Adapter evaluates rules. Its methods may be called concurrently.
type Adapter struct {
	query   Query
	dialect Dialect

	objects   []*rule
	externals []*rule
	resources *resourceRules
	mapper    meta.RESTMapper

	mu sync.Mutex
	// found are the series that a rule was found to be about, by rule: a name and
	// the labels that its series have.
	found map[*rule]map[string]map[string]bool
}

// New compiles the rules. mapper must know every resource that they name: Mapper knows those of a mesh.
func New(c *Config, mapper meta.RESTMapper, query Query, dialect Dialect) (*Adapter, error) {
	a := &Adapter{query: query, dialect: dialect, mapper: mapper, found: map[*rule]map[string]map[string]bool{}}
	for i, r := range c.Rules {
		compiled, err := compile(r, mapper, dialect)
		if err != nil {
			return nil, fmt.Errorf("rules[%d]: %w", i, err)
		}
		a.objects = append(a.objects, compiled)
	}
	for i, r := range c.ExternalRules {
		compiled, err := compile(r, mapper, dialect)
		if err != nil {
			return nil, fmt.Errorf("externalRules[%d]: %w", i, err)
		}
		a.externals = append(a.externals, compiled)
	}
	if c.ResourceRules != nil {
		compiled, err := compileResources(c.ResourceRules, mapper)
		if err != nil {
			return nil, fmt.Errorf("resourceRules: %w", err)
		}
		compiled.window = dialect.Window(compiled.window)
		a.resources = compiled
	}
	return a, nil
}

// ask evaluates what a template came to, at now.
func (a *Adapter) ask(ctx context.Context, query string) ([]Sample, time.Time, error) {
	asked, err := a.dialect.Query(query)
	if err != nil {
		return nil, time.Time{}, apierrors.NewInternalError(fmt.Errorf("query %q: %w", query, err))
	}
	at := time.Now()
	v, err := a.query(ctx, asked, at)
	if err != nil {
		return nil, time.Time{}, apierrors.NewInternalError(fmt.Errorf("unable to fetch metrics: %w", err))
	}
	return v, at, nil
}

// PodMetrics answers for CPU and memory of the named pods. A pod that either
// query has no answer for is left out.
func (a *Adapter) PodMetrics(ctx context.Context, namespace string, pods []string) ([]metricsv1beta1.PodMetrics, error) {
	if a.resources == nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("the metrics rules have no resourceRules: add them"))
	}
	if len(pods) == 0 {
		return nil, nil
	}
	cpu, at, err := a.usage(ctx, a.resources.cpu, namespace, pods)
	if err != nil {
		return nil, err
	}
	memory, _, err := a.usage(ctx, a.resources.memory, namespace, pods)
	if err != nil {
		return nil, err
	}
	var list []metricsv1beta1.PodMetrics
	for _, pod := range pods {
		if cpu[pod] == nil || memory[pod] == nil {
			continue
		}
		m := metricsv1beta1.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: namespace},
			Timestamp:  metav1.Time{Time: at},
			Window:     metav1.Duration{Duration: a.resources.window},
		}
		// A container that one query knows and the other does not uses none of it.
		for _, container := range union(cpu[pod], memory[pod]) {
			m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{
				Name: container,
				Usage: corev1.ResourceList{
					corev1.ResourceCPU:    *resource.NewMilliQuantity(milli(cpu[pod][container]), resource.DecimalSI),
					corev1.ResourceMemory: *resource.NewMilliQuantity(milli(memory[pod][container]), resource.BinarySI),
				},
			})
		}
		list = append(list, m)
	}
	return list, nil
}

// usage is one resource by pod and container.
func (a *Adapter) usage(ctx context.Context, r *resourceRule, namespace string, pods []string) (map[string]map[string]float64, time.Time, error) {
	query, err := r.query(namespace, pods)
	if err != nil {
		return nil, time.Time{}, apierrors.NewInternalError(err)
	}
	vector, at, err := a.ask(ctx, query)
	if err != nil {
		return nil, time.Time{}, err
	}
	usage := map[string]map[string]float64{}
	for _, sample := range vector {
		pod := sample.Labels[r.podLabel]
		if usage[pod] == nil {
			usage[pod] = map[string]float64{}
		}
		// As upstream: what is not a number, or negative, is nothing.
		value := sample.Value
		if math.IsNaN(value) || value < 0 {
			value = 0
		}
		usage[pod][sample.Labels[r.containerLabel]] = value
	}
	return usage, at, nil
}

// ObjectMetrics answers for a metric of the named objects of a kind. An object
// without a value is left out; none at all is a NotFound error.
func (a *Adapter) ObjectMetrics(ctx context.Context, kind schema.GroupKind, namespace string, names []string, metric string, selector labels.Selector) ([]custom.MetricValue, error) {
	mapping, err := a.mapper.RESTMapping(kind)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	of := mapping.Resource.GroupResource()
	if len(names) == 0 {
		return nil, notFound(metric, of.String())
	}
	r, series, err := a.find(ctx, a.objects, metric, func(r *rule, has map[string]bool) bool {
		label, err := r.label(of)
		return err == nil && has[label]
	})
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, notFound(metric, of.String())
	}
	label, err := r.label(of)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	query, err := r.objectQuery(series, of, namespace, names, selector)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	vector, at, err := a.ask(ctx, query)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for _, sample := range vector {
		values[sample.Labels[label]] = sample.Value
	}
	var list []custom.MetricValue
	for _, name := range names {
		value, ok := values[name]
		// Infinite is what a ratio to nothing comes to, such as the pressure on a
		// service without a ready replica. No number of replicas follows from it.
		if !ok || math.IsInf(value, 0) {
			continue
		}
		if math.IsNaN(value) { // as upstream
			value = 0
		}
		list = append(list, custom.MetricValue{
			DescribedObject: corev1.ObjectReference{
				APIVersion: mapping.GroupVersionKind.GroupVersion().String(), Kind: kind.Kind, Namespace: namespace, Name: name,
			},
			Metric:    custom.MetricIdentifier{Name: metric},
			Timestamp: metav1.Time{Time: at},
			Value:     *resource.NewMilliQuantity(milli(value), resource.DecimalSI),
		})
	}
	if len(list) == 0 {
		return nil, notFound(metric, of.String())
	}
	return list, nil
}

// ExternalMetrics answers for a metric that belongs to no object: all values
// that the selector's labels match. None is an empty list; a metric that no rule
// gives is a NotFound error. A value that is infinite or not a number is left out.
func (a *Adapter) ExternalMetrics(ctx context.Context, namespace, metric string, selector labels.Selector) ([]external.ExternalMetricValue, error) {
	r, series, err := a.find(ctx, a.externals, metric, func(*rule, map[string]bool) bool { return true })
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, notFound(metric, "")
	}
	query, err := r.externalQuery(series, namespace, selector)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	vector, at, err := a.ask(ctx, query)
	if err != nil {
		return nil, err
	}
	var list []external.ExternalMetricValue
	for _, sample := range vector {
		if math.IsNaN(sample.Value) || math.IsInf(sample.Value, 0) {
			continue
		}
		list = append(list, external.ExternalMetricValue{
			MetricName:   metric,
			MetricLabels: sample.Labels,
			Timestamp:    metav1.Time{Time: at},
			Value:        *resource.NewMilliQuantity(milli(sample.Value), resource.DecimalSI),
		})
	}
	return list, nil
}

// find returns the first rule and series that give a metric. What is not known
// is looked for among the series that the store has now; what was found once
// stays known, so that a metric without values is told from one without a rule.
func (a *Adapter) find(ctx context.Context, rules []*rule, metric string, fits func(*rule, map[string]bool) bool) (*rule, string, error) {
	known := func(r *rule) (string, bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, series := range slices.Sorted(maps.Keys(a.found[r])) {
			if name, ok := r.metric(series); ok && name == metric && fits(r, a.found[r][series]) {
				return series, true
			}
		}
		return "", false
	}
	for _, r := range rules {
		if series, ok := known(r); ok {
			return r, series, nil
		}
	}
	for _, r := range rules {
		if !r.mayGive(metric) {
			continue
		}
		vector, _, err := a.ask(ctx, r.seriesQuery)
		if err != nil {
			return nil, "", err
		}
		a.learn(r, vector)
		if series, ok := known(r); ok {
			return r, series, nil
		}
	}
	return nil, "", nil
}

// learn keeps the names of series and their labels.
func (a *Adapter) learn(r *rule, vector []Sample) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.found[r] == nil {
		a.found[r] = map[string]map[string]bool{}
	}
	for _, sample := range vector {
		name := sample.Labels["__name__"]
		if a.found[r][name] == nil {
			a.found[r][name] = map[string]bool{}
		}
		for label := range sample.Labels {
			a.found[r][name][label] = true
		}
	}
}

// milli is a value in thousandths, within what they can say.
func milli(value float64) int64 {
	thousandths := value * 1000
	switch {
	case thousandths >= math.MaxInt64:
		return math.MaxInt64
	case thousandths <= math.MinInt64:
		return math.MinInt64
	}
	return int64(thousandths)
}

// notFound is what upstream says of a metric that it does not have.
func notFound(metric, of string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotFound,
		Reason:  metav1.StatusReasonNotFound,
		Message: fmt.Sprintf("the server could not find the metric %s for %s", metric, of),
	}}
}

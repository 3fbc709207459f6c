package autoscaler

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	external "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	customclient "k8s.io/metrics/pkg/client/custom_metrics"
	externalclient "k8s.io/metrics/pkg/client/external_metrics"
)

// The types of this file are Kubernetes' three metrics APIs, as upstream's
// metrics client reads them.

// askFor bounds a question to the metrics store: an answer later than the next
// look at the HPA is of no use.
func (a *Autoscaler) askFor(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.config.Sync)
}

// pods are the names of the pods that a selector selects, in order.
func (a *Autoscaler) pods(namespace string, selector labels.Selector) ([]string, error) {
	pods, err := podInformer{a.mirror.pods}.Lister().Pods(namespace).List(selector)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names, nil
}

// resourceMetrics is metrics.k8s.io.
type resourceMetrics struct{ a *Autoscaler }

func (m resourceMetrics) PodMetricses(namespace string) resourceclient.PodMetricsInterface {
	return podMetrics{a: m.a, namespace: namespace}
}

type podMetrics struct {
	resourceclient.PodMetricsInterface
	a         *Autoscaler
	namespace string
}

func (m podMetrics) List(ctx context.Context, opts metav1.ListOptions) (*metricsv1beta1.PodMetricsList, error) {
	selector, err := labels.Parse(opts.LabelSelector)
	if err != nil {
		return nil, err
	}
	pods, err := m.a.pods(m.namespace, selector)
	if err != nil {
		return nil, err
	}
	ctx, cancel := m.a.askFor(ctx)
	defer cancel()
	items, err := m.a.adapter.PodMetrics(ctx, m.namespace, pods)
	if err != nil {
		return nil, err
	}
	return &metricsv1beta1.PodMetricsList{Items: items}, nil
}

// customMetrics is custom.metrics.k8s.io. Its methods get no context: they use
// the controller's.
type customMetrics struct {
	a   *Autoscaler
	ctx context.Context
}

func (m customMetrics) NamespacedMetrics(namespace string) customclient.MetricsInterface {
	return objectMetrics{m, namespace}
}

func (m customMetrics) RootScopedMetrics() customclient.MetricsInterface {
	return objectMetrics{m, ""}
}

type objectMetrics struct {
	customMetrics
	namespace string
}

func (m objectMetrics) GetForObject(kind schema.GroupKind, name, metric string, selector labels.Selector) (*custom.MetricValue, error) {
	ctx, cancel := m.a.askFor(m.ctx)
	defer cancel()
	values, err := m.a.adapter.ObjectMetrics(ctx, kind, m.namespace, []string{name}, metric, selector)
	if err != nil {
		return nil, err
	}
	return &values[0], nil
}

func (m objectMetrics) GetForObjects(kind schema.GroupKind, selector labels.Selector, metric string, metricSelector labels.Selector) (*custom.MetricValueList, error) {
	if kind.Group != corev1.GroupName || kind.Kind != "Pod" {
		return nil, apierrors.NewInternalError(fmt.Errorf("metrics of %s by a selector: ask for pods", kind))
	}
	pods, err := m.a.pods(m.namespace, selector)
	if err != nil {
		return nil, err
	}
	ctx, cancel := m.a.askFor(m.ctx)
	defer cancel()
	items, err := m.a.adapter.ObjectMetrics(ctx, kind, m.namespace, pods, metric, metricSelector)
	if err != nil {
		return nil, err
	}
	return &custom.MetricValueList{Items: items}, nil
}

// externalMetrics is external.metrics.k8s.io, with the controller's context.
type externalMetrics struct {
	a   *Autoscaler
	ctx context.Context
}

func (m externalMetrics) NamespacedMetrics(namespace string) externalclient.MetricsInterface {
	return externalNamespace{m, namespace}
}

type externalNamespace struct {
	externalMetrics
	namespace string
}

func (m externalNamespace) List(metric string, selector labels.Selector) (*external.ExternalMetricValueList, error) {
	ctx, cancel := m.a.askFor(m.ctx)
	defer cancel()
	items, err := m.a.adapter.ExternalMetrics(ctx, m.namespace, metric, selector)
	if err != nil {
		return nil, err
	}
	return &external.ExternalMetricValueList{Items: items}, nil
}

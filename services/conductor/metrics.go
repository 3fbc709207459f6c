package main

import (
	"context"
	"errors"
	"log/slog"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/metrics/pkg/apis/custom_metrics"
	"k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	"k8s.io/metrics/pkg/apis/external_metrics"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"

	"spillway.dev/platform/metricsrules"
)

// metrics answers the custom and external metrics APIs by the rules. It keeps no value: while Prometheus is away every
// answer is an error, the HPA says FailedGetMetrics and leaves the replicas as they are.
type metrics struct {
	rules   *metricsrules.Adapter
	mapper  meta.RESTMapper
	objects metadata.Interface
	failed  func()
	log     *slog.Logger
}

var _ provider.MetricsProvider = (*metrics)(nil)

// GetMetricByName implements provider.CustomMetricsProvider.
func (m *metrics) GetMetricByName(ctx context.Context, name types.NamespacedName, info provider.CustomMetricInfo, selector labels.Selector) (*custom_metrics.MetricValue, error) {
	values, err := m.ask(ctx, name.Namespace, []string{name.Name}, info, selector)
	if err != nil {
		return nil, err
	}
	return &values[0], nil
}

// GetMetricBySelector implements provider.CustomMetricsProvider.
func (m *metrics) GetMetricBySelector(ctx context.Context, namespace string, selector labels.Selector, info provider.CustomMetricInfo, metricSelector labels.Selector) (*custom_metrics.MetricValueList, error) {
	resource, err := m.mapper.ResourceFor(info.GroupResource.WithVersion(""))
	if err != nil {
		return nil, provider.NewMetricNotFoundError(info.GroupResource, info.Metric)
	}
	list, err := m.objects.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Items))
	for i, object := range list.Items {
		names[i] = object.Name
	}
	values, err := m.ask(ctx, namespace, names, info, metricSelector)
	if err != nil {
		return nil, err
	}
	return &custom_metrics.MetricValueList{Items: values}, nil
}

// ask returns at least one value when there is no error.
func (m *metrics) ask(ctx context.Context, namespace string, names []string, info provider.CustomMetricInfo, selector labels.Selector) ([]custom_metrics.MetricValue, error) {
	kind, err := m.kindOf(info.GroupResource)
	if err != nil {
		return nil, provider.NewMetricNotFoundError(info.GroupResource, info.Metric)
	}
	found, err := m.rules.ObjectMetrics(ctx, kind, namespace, names, info.Metric, selector)
	if err != nil {
		m.note(err)
		return nil, err
	}
	values := make([]custom_metrics.MetricValue, len(found))
	for i, v := range found {
		values[i] = internal(v)
	}
	return values, nil
}

func (m *metrics) kindOf(resource schema.GroupResource) (schema.GroupKind, error) {
	kind, err := m.mapper.KindFor(resource.WithVersion(""))
	return kind.GroupKind(), err
}

// internal is a value in the terms of the library, which has the versions' conversions to itself.
func internal(v v1beta2.MetricValue) custom_metrics.MetricValue {
	return custom_metrics.MetricValue{
		DescribedObject: custom_metrics.ObjectReference{
			APIVersion: v.DescribedObject.APIVersion, Kind: v.DescribedObject.Kind,
			Namespace: v.DescribedObject.Namespace, Name: v.DescribedObject.Name,
		},
		Metric:    custom_metrics.MetricIdentifier{Name: v.Metric.Name},
		Timestamp: v.Timestamp,
		Value:     v.Value,
	}
}

// GetExternalMetric implements provider.ExternalMetricsProvider.
func (m *metrics) GetExternalMetric(ctx context.Context, namespace string, selector labels.Selector, info provider.ExternalMetricInfo) (*external_metrics.ExternalMetricValueList, error) {
	found, err := m.rules.ExternalMetrics(ctx, namespace, info.Metric, selector)
	if err != nil {
		m.note(err)
		return nil, err
	}
	values := make([]external_metrics.ExternalMetricValue, len(found))
	for i, v := range found {
		values[i] = external_metrics.ExternalMetricValue{
			MetricName: v.MetricName, MetricLabels: v.MetricLabels, Timestamp: v.Timestamp, Value: v.Value,
		}
	}
	return &external_metrics.ExternalMetricValueList{Items: values}, nil
}

// ListAllMetrics implements provider.CustomMetricsProvider.
func (m *metrics) ListAllMetrics() []provider.CustomMetricInfo {
	objects, _ := m.list()
	infos := make([]provider.CustomMetricInfo, len(objects))
	for i, o := range objects {
		infos[i] = provider.CustomMetricInfo{GroupResource: o.Resource, Namespaced: o.Namespaced, Metric: o.Metric}
	}
	return infos
}

// ListAllExternalMetrics implements provider.ExternalMetricsProvider.
func (m *metrics) ListAllExternalMetrics() []provider.ExternalMetricInfo {
	_, externals := m.list()
	infos := make([]provider.ExternalMetricInfo, len(externals))
	for i, name := range externals {
		infos[i] = provider.ExternalMetricInfo{Metric: name}
	}
	return infos
}

// list is what discovery is answered with. It is answered without Prometheus too, with what was found before: a group
// that cannot be discovered keeps the cluster from deleting namespaces.
func (m *metrics) list() ([]metricsrules.ObjectMetric, []string) {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout) // the library brings no context
	defer cancel()
	objects, externals, err := m.rules.List(ctx)
	if err != nil {
		m.note(err)
	}
	return objects, externals
}

// note counts a query that Prometheus did not answer; that there is no such metric is an answer.
func (m *metrics) note(err error) {
	if failed, ok := errors.AsType[interface {
		error
		Status() metav1.Status
	}](err); ok && failed.Status().Reason == metav1.StatusReasonNotFound {
		return
	}
	m.failed()
	m.log.Warn("metrics cannot be had, the autoscalers hold", "error", err)
}

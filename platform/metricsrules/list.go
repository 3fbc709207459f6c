package metricsrules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ObjectMetric is a metric that some object of a kind has.
type ObjectMetric struct {
	Resource   schema.GroupResource
	Namespaced bool
	Metric     string
}

// kinds are those of Mapper.
var kinds = []schema.GroupKind{
	{Kind: "Pod"}, {Kind: "Service"}, {Kind: "Namespace"}, {Kind: "Node"}, {Group: "apps", Kind: "Deployment"},
}

// List looks for the series of all rules and returns every metric that they have given so far, sorted: for people and
// for discovery, HPAs ask for a metric by its name. With an error the lists are what was found before.
func (a *Adapter) List(ctx context.Context) (objects []ObjectMetric, externals []string, err error) {
	for _, r := range slices.Concat(a.objects, a.externals) {
		vector, _, failed := a.ask(ctx, r.seriesQuery)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("series %s: %w", r.seriesQuery, failed))
			break // what cannot answer one cannot answer the others, and each takes its time
		}
		a.learn(r, vector)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	of := map[ObjectMetric]bool{}
	for _, r := range a.objects {
		for series, has := range a.found[r] {
			metric, ok := r.metric(series)
			if !ok {
				continue
			}
			for _, kind := range kinds {
				mapping, unknown := a.mapper.RESTMapping(kind)
				if unknown != nil {
					continue // a mapper of its own, which knows fewer
				}
				resource := mapping.Resource.GroupResource()
				if label, unlabelled := r.label(resource); unlabelled == nil && has[label] {
					of[ObjectMetric{resource, mapping.Scope.Name() == meta.RESTScopeNameNamespace, metric}] = true
				}
			}
		}
	}
	names := map[string]bool{}
	for _, r := range a.externals {
		for series := range a.found[r] {
			if metric, ok := r.metric(series); ok {
				names[metric] = true
			}
		}
	}
	objects = slices.SortedFunc(maps.Keys(of), func(a, b ObjectMetric) int {
		return cmp.Or(cmp.Compare(a.Resource.String(), b.Resource.String()), cmp.Compare(a.Metric, b.Metric))
	})
	return objects, slices.Sorted(maps.Keys(names)), err
}

package manifests

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// clusterWide are the kinds here that belong to no namespace.
var clusterWide = map[string]bool{
	"Namespace": true, "APIService": true, "ClusterRole": true, "ClusterRoleBinding": true, "PriorityClass": true,
}

func metaOf(object runtime.Object) (metav1.Object, error) {
	o, err := meta.Accessor(object)
	if err != nil {
		return nil, fmt.Errorf("%T: %w", object, err)
	}
	return o, nil
}

var linked = regexp.MustCompile(`\$\(([A-Z_]+)_SERVICE_HOST\)`)

// hosts are the Services of its own namespace that a container is told to call, by
// the mesh's names or by ClusterIP; sorted.
func hosts(c corev1.Container) []string {
	names := map[string]bool{}
	for _, e := range c.Env {
		if name, ok := strings.CutPrefix(e.Value, "xds:///"); ok {
			names[name] = true
		}
		for _, found := range linked.FindAllStringSubmatch(e.Value, -1) {
			names[strings.ToLower(strings.ReplaceAll(found[1], "_", "-"))] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

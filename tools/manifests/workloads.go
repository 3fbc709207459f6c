package manifests

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// workload is what runs pods.
type workload struct {
	kind, namespace, name string
	selector              *metav1.LabelSelector
	replicas              int32
	pod                   corev1.PodTemplateSpec
	claims                []string // of a StatefulSet's templates
}

func (w workload) String() string { return w.kind + " " + w.namespace + "/" + w.name }

// containers are all of the pod, those that come first too.
func (w workload) containers() []corev1.Container {
	return slices.Concat(w.pod.Spec.InitContainers, w.pod.Spec.Containers)
}

func workloads(objects Objects) []workload {
	number := func(n *int32) int32 {
		if n == nil {
			return 1
		}
		return *n
	}
	var all []workload
	for _, object := range objects.Typed {
		switch o := object.(type) {
		case *appsv1.Deployment:
			all = append(all, workload{"Deployment", o.Namespace, o.Name, o.Spec.Selector, number(o.Spec.Replicas), o.Spec.Template, nil})
		case *appsv1.StatefulSet:
			w := workload{"StatefulSet", o.Namespace, o.Name, o.Spec.Selector, number(o.Spec.Replicas), o.Spec.Template, nil}
			for _, c := range o.Spec.VolumeClaimTemplates {
				w.claims = append(w.claims, c.Name)
			}
			all = append(all, w)
		case *appsv1.DaemonSet:
			all = append(all, workload{"DaemonSet", o.Namespace, o.Name, o.Spec.Selector, 1, o.Spec.Template, nil})
		case *batchv1.Job:
			all = append(all, workload{"Job", o.Namespace, o.Name, nil, 1, o.Spec.Template, nil})
		}
	}
	return all
}

// each are the objects of one type.
func each[T runtime.Object](objects Objects) []T {
	var all []T
	for _, object := range objects.Typed {
		if o, ok := object.(T); ok {
			all = append(all, o)
		}
	}
	return all
}

// environment is what a container is told in plain values.
func environment(c corev1.Container) map[string]string {
	all := map[string]string{}
	for _, e := range c.Env {
		all[e.Name] = e.Value
	}
	return all
}

// configMaps that a pod reads, sorted.
func configMaps(pod corev1.PodSpec) []string {
	names := map[string]bool{}
	for _, v := range pod.Volumes {
		if v.ConfigMap != nil {
			names[v.ConfigMap.Name] = true
		}
		if v.Projected != nil {
			for _, source := range v.Projected.Sources {
				if source.ConfigMap != nil {
					names[source.ConfigMap.Name] = true
				}
			}
		}
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				names[e.ValueFrom.ConfigMapKeyRef.Name] = true
			}
		}
		for _, e := range c.EnvFrom {
			if e.ConfigMapRef != nil {
				names[e.ConfigMapRef.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

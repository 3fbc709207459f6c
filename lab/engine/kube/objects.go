package kube

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// split reads a YAML stream of objects and puts them in the order in which they are
// applied: what others need comes first, autoscalers last.
func split(text []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(doc, &object.Object); err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if len(object.Object) == 0 {
			continue
		}
		if object.GetKind() == "" || object.GetAPIVersion() == "" || object.GetName() == "" {
			return nil, fmt.Errorf("an object of the manifests has no apiVersion, kind or metadata.name: %.80s", doc)
		}
		out = append(out, object)
	}
	slices.SortStableFunc(out, func(a, b *unstructured.Unstructured) int { return cmp.Compare(rank(a), rank(b)) })
	return out, nil
}

// order is that of kinds; those that are not here come between the last two.
var order = []string{
	"Namespace", "CustomResourceDefinition", "StorageClass", "PriorityClass", "ServiceAccount", "Role", "ClusterRole",
	"RoleBinding", "ClusterRoleBinding", "ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim",
	"NetworkPolicy", "Service", "StatefulSet", "Deployment", "DaemonSet", "HorizontalPodAutoscaler",
}

func rank(o *unstructured.Unstructured) int {
	i := slices.Index(order, o.GetKind())
	switch {
	case i < 0:
		return len(order) - 1
	case i == len(order)-1:
		return len(order)
	}
	return i
}

// reference names an object of the cluster.
type reference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

func referenceTo(o *unstructured.Unstructured) reference {
	return reference{o.GetAPIVersion(), o.GetKind(), o.GetNamespace(), o.GetName()}
}

func (r reference) kind() (schema.GroupVersionKind, error) {
	gv, err := schema.ParseGroupVersion(r.APIVersion)
	return gv.WithKind(r.Kind), err
}

func (r reference) String() string { return strings.ToLower(r.Kind) + "/" + r.Name }

// same tells whether two references mean one object, by whatever version of its
// API.
func (r reference) same(other reference) bool {
	group := func(apiVersion string) string {
		group, _, found := strings.Cut(apiVersion, "/")
		if !found {
			return ""
		}
		return group
	}
	return r.Kind == other.Kind && r.Namespace == other.Namespace && r.Name == other.Name && group(r.APIVersion) == group(other.APIVersion)
}

// left are those of before that are not among now, the last applied first.
func left(before, now []reference) []reference {
	var out []reference
	for _, r := range before {
		if !slices.ContainsFunc(now, r.same) {
			out = append(out, r)
		}
	}
	slices.Reverse(out)
	return out
}

// kept tells why an object is not deleted with the rest; empty when it is.
func kept(r reference) string {
	switch r.Kind {
	case "Namespace":
		return "whoever may break it has marked it"
	case "PersistentVolumeClaim", "PersistentVolume":
		return "it holds what was sold"
	case "CustomResourceDefinition":
		return "with it everybody's objects of its kind would go"
	}
	return ""
}

// Services reads from manifests, a YAML stream, which services the mesh of a
// namespace has, its Deployments but for the control plane's, by name, and which of
// them an autoscaler scales.
func Services(manifests []byte, namespace string) (all []string, byAutoscaler map[string]bool, err error) {
	objects, err := split(manifests)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range objects { // as Apply puts them
		if o.GetNamespace() == "" {
			o.SetNamespace(namespace)
		}
	}
	targets := scaled(objects)
	byAutoscaler = make(map[string]bool)
	for _, o := range objects {
		if o.GetKind() != "Deployment" || o.GetName() == controlPlane || o.GetNamespace() != namespace {
			continue
		}
		all = append(all, o.GetName())
		if targets[namespace+"/"+o.GetName()] {
			byAutoscaler[o.GetName()] = true
		}
	}
	slices.Sort(all)
	return all, byAutoscaler, nil
}

// scaled are the names of the workloads that an autoscaler among the objects sets
// the replicas of, by namespace.
func scaled(objects []*unstructured.Unstructured) map[string]bool {
	out := make(map[string]bool)
	for _, o := range objects {
		if o.GetKind() != "HorizontalPodAutoscaler" && o.GetKind() != "ScaledObject" {
			continue
		}
		name, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
		out[o.GetNamespace()+"/"+name] = true
	}
	return out
}

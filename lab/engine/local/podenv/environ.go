// Package podenv computes a container's environment and arguments from its
// manifest, by the rules of Kubernetes.
package podenv

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Pod is what valueFrom.fieldRef can ask for.
type Pod struct {
	Name, Namespace, IP, Node string
	ServiceAccount            string
	Labels, Annotations       map[string]string
}

// Source is where values come from.
type Source struct {
	Pod        Pod
	ConfigMaps map[string]*corev1.ConfigMap
	// Offered can be named by $(NAME) though no manifest defines it.
	Offered map[string]string
	// Links are the variables that tell of Services. They can be named by $(NAME)
	// and are in the environment, but for those that a manifest defines.
	Links map[string]string
}

// Container computes the environment, as NAME=value in the order of names, and
// the arguments of a container. As in Kubernetes $(NAME) in a value of env sees
// the entries of env before it and what is offered, not what envFrom brings;
// arguments see all of the environment.
func Container(c corev1.Container, s Source) (environ, args []string, err error) {
	env := maps.Clone(s.Links)
	if env == nil {
		env = map[string]string{}
	}
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			return nil, nil, fmt.Errorf("envFrom of container %s: the local engine reads ConfigMaps only", c.Name)
		}
		m := s.ConfigMaps[from.ConfigMapRef.Name]
		if m == nil && !isTrue(from.ConfigMapRef.Optional) {
			return nil, nil, fmt.Errorf("envFrom of container %s: there is no ConfigMap %s", c.Name, from.ConfigMapRef.Name)
		}
		if m != nil {
			for key, value := range m.Data {
				env[from.Prefix+key] = value
			}
		}
	}
	defined := map[string]string{}
	lookup := func(name string) (string, bool) {
		if value, ok := defined[name]; ok {
			return value, true
		}
		if value, ok := s.Offered[name]; ok {
			return value, true
		}
		value, ok := s.Links[name]
		return value, ok
	}
	for _, e := range c.Env {
		value, ok := Expand(e.Value, lookup), true
		if e.ValueFrom != nil {
			if value, ok, err = s.valueFrom(e.ValueFrom); err != nil {
				return nil, nil, fmt.Errorf("environment variable %s of container %s: %w", e.Name, c.Name, err)
			}
		}
		if ok {
			defined[e.Name], env[e.Name] = value, value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		environ = append(environ, name+"="+env[name])
	}
	for _, arg := range c.Args {
		args = append(args, Expand(arg, func(name string) (string, bool) {
			value, ok := env[name]
			return value, ok
		}))
	}
	return environ, args, nil
}

func (s Source) valueFrom(from *corev1.EnvVarSource) (value string, ok bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err := s.Pod.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		if m := s.ConfigMaps[ref.Name]; m != nil {
			if value, ok := m.Data[ref.Key]; ok {
				return value, true, nil
			}
		}
		if isTrue(ref.Optional) {
			return "", false, nil
		}
		return "", false, fmt.Errorf("there is no key %q in ConfigMap %s", ref.Key, ref.Name)
	default:
		return "", false, fmt.Errorf("the local engine knows fieldRef and configMapKeyRef only")
	}
}

func (p Pod) field(path string) (string, error) {
	for prefix, m := range map[string]map[string]string{"metadata.labels": p.Labels, "metadata.annotations": p.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix+"['"); ok {
			if key, ok := strings.CutSuffix(key, "']"); ok {
				return m[key], nil
			}
		}
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "spec.serviceAccountName":
		return p.ServiceAccount, nil
	case "spec.nodeName":
		return p.Node, nil
	case "status.podIP", "status.hostIP":
		return p.IP, nil
	}
	return "", fmt.Errorf("the local engine does not know the field %s of a pod", path)
}

func isTrue(b *bool) bool { return b != nil && *b }

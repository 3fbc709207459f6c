package local

import (
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"spillway.dev/lab/engine/local/rollout"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/platform/mesh"
)

// check finds what this engine could not run, before a manifest becomes the one
// that holds: found later, one Service's mistake would keep the endpoints of all
// from the control plane. The error lists every mistake by object, field and
// value, with what is allowed.
func check(m *manifest.Mesh) error {
	var errs []error
	for _, d := range m.Deployments {
		if err := checkStrategy(d.Spec.Strategy); err != nil {
			errs = append(errs, fmt.Errorf("in Deployment %s: spec.strategy.%w", d.Name, err))
		}
	}
	names := map[string]bool{}
	for _, s := range m.Services {
		if !slices.ContainsFunc(s.Spec.Ports, isMeshPort) {
			continue
		}
		// What the control plane would refuse of one Service it refuses for all.
		policy := mesh.Service{Name: s.Name, Policy: mesh.Policy(s.Annotations[mesh.PolicyAnnotation]), HashHeader: s.Annotations[mesh.HashHeaderAnnotation]}
		if err := (mesh.State{Services: []mesh.Service{policy}}).Validate(); err != nil {
			errs = append(errs, fmt.Errorf("in Service %s: metadata.annotations[%s]: %w", s.Name, mesh.PolicyAnnotation, err))
		}
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("in Service %s: metadata.name is there twice; the local engine knows one namespace, give another name", s.Name))
		}
		names[s.Name] = true
	}
	if len(names) == 0 {
		errs = append(errs, fmt.Errorf("no Service has spec.ports[].name %q; the mesh needs at least one that can be called", mesh.PortName))
	}
	return errors.Join(errs...)
}

func isMeshPort(p corev1.ServicePort) bool { return p.Name == mesh.PortName }

func checkStrategy(s appsv1.DeploymentStrategy) error {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		return nil
	case "", appsv1.RollingUpdateDeploymentStrategyType:
	default:
		return fmt.Errorf("type is %q; give %q or %q", s.Type, appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType)
	}
	// A small negative percentage of few replicas rounds to none: the most that a
	// Deployment can be scaled to shows it.
	if _, err := rollout.Resolve(s.RollingUpdate, maxReplicas); err != nil {
		return fmt.Errorf("rollingUpdate.%w", err)
	}
	return nil
}

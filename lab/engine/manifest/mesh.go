package manifest

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// Mesh is what an overlay describes, as Kubernetes would be told.
type Mesh struct {
	Deployments []*appsv1.Deployment
	Services    []*corev1.Service
	ConfigMaps  map[string]*corev1.ConfigMap
	Claims      []*corev1.PersistentVolumeClaim
	// HPAs are for whoever scales: nothing in this package acts on them.
	HPAs []*autoscalingv2.HorizontalPodAutoscaler
	// Ignored is what the overlay says and the local engine does not act on.
	Ignored []Ignored
}

// Ignored is a field or kind that has no effect on one machine.
type Ignored struct {
	// What is a kind, such as "PodDisruptionBudget", or a field of one, such as
	// "Deployment spec.template.spec.securityContext".
	What string
	// Why it has no effect here.
	Why string
	// Objects that say it, by name.
	Objects []string
	// Expected is whether the list of rules knows it. The rest may be a mistake.
	Expected bool
}

func (i Ignored) String() string {
	return fmt.Sprintf("%s (%s): %s", i.What, strings.Join(i.Objects, ", "), i.Why)
}

// Load renders the overlay in dir and decodes it. Files below root, which holds
// dir, are searched for the place of a mistake.
func Load(root, dir string) (*Mesh, error) {
	text, err := Render(filepath.Join(root, dir))
	if err != nil {
		return nil, err
	}
	return Decode(text, root)
}

// Deployment finds a Deployment by name, nil when there is none.
func (m *Mesh) Deployment(name string) *appsv1.Deployment {
	i := slices.IndexFunc(m.Deployments, func(d *appsv1.Deployment) bool { return d.Name == name })
	if i < 0 {
		return nil
	}
	return m.Deployments[i]
}

// LinkName is a Service's name, or a port's, as it stands in the variables by which
// Kubernetes tells pods of Services.
func LinkName(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// Stages orders the Deployments so that each comes in an earlier stage than the
// ones it calls. Who calls whom is what the environment says: a value of
// xds:///NAME, or one with $(NAME_SERVICE_HOST) in it. Deployments that call each other in a ring share the last stage.
func (m *Mesh) Stages() [][]string {
	callees := make(map[string]map[string]bool, len(m.Deployments))
	left := make(map[string]bool, len(m.Deployments))
	for _, d := range m.Deployments {
		left[d.Name] = true
		callees[d.Name] = map[string]bool{}
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, e := range c.Env {
				if name, ok := strings.CutPrefix(e.Value, "xds:///"); ok {
					callees[d.Name][name] = true
				}
				for _, other := range m.Deployments {
					if strings.Contains(e.Value, "$("+LinkName(other.Name)+"_SERVICE_HOST)") {
						callees[d.Name][other.Name] = true
					}
				}
			}
		}
	}
	var stages [][]string
	for len(left) > 0 {
		var stage []string
		for _, name := range slices.Sorted(maps.Keys(left)) {
			called := false
			for caller := range left {
				called = called || (caller != name && callees[caller][name])
			}
			if !called {
				stage = append(stage, name)
			}
		}
		if stage == nil {
			return append(stages, slices.Sorted(maps.Keys(left)))
		}
		for _, name := range stage {
			delete(left, name)
		}
		stages = append(stages, stage)
	}
	return stages
}

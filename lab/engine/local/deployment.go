package local

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"spillway.dev/lab/engine/local/rollout"
)

// restartedAt is the annotation by which `kubectl rollout restart`, and
// `spillway restart`, make a template new.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// deployment is a Deployment and its pods. Engine.mu guards it.
type deployment struct {
	name     string
	created  time.Time
	meta     metav1.ObjectMeta
	spec     appsv1.DeploymentSpec
	template *corev1.PodTemplateSpec
	hash     string // of template
	// revisions tells how old the set of a hash is: higher is newer.
	revisions map[string]int
	// scaled overrides the manifest's number of replicas until that changes.
	scaled    *int
	restarted string
	removed   bool // no longer in the manifests
	pods      []*pod
	shown     [2]int // ready and wanted of the latest event
}

// adopt makes a manifest the one that holds. A new number of replicas in it ends
// a scale set by hand.
func (d *deployment) adopt(m *appsv1.Deployment) {
	if d.spec.Replicas != nil && replicas(d.spec) != replicas(m.Spec) {
		d.scaled = nil
	}
	if d.spec.Replicas == nil && replicas(m.Spec) != 1 {
		d.scaled = nil
	}
	d.meta, d.spec, d.removed = m.ObjectMeta, m.Spec, false
	d.stamp()
}

// stamp computes the template that pods are made from, and its hash.
func (d *deployment) stamp() {
	d.template = d.spec.Template.DeepCopy()
	if d.restarted != "" {
		if d.template.Annotations == nil {
			d.template.Annotations = map[string]string{}
		}
		d.template.Annotations[restartedAt] = d.restarted
	}
	text, err := json.Marshal(d.template)
	if err != nil {
		panic(fmt.Sprintf("encode a decoded pod template: %v", err))
	}
	sum := sha256.Sum256(text)
	if hash := hex.EncodeToString(sum[:5]); hash != d.hash {
		d.hash = hash
		if d.revisions == nil {
			d.revisions = map[string]int{}
		}
		// Going back to an earlier template makes that one the newest.
		newest := 0
		for _, r := range d.revisions {
			newest = max(newest, r)
		}
		d.revisions[hash] = newest + 1
	}
}

func replicas(s appsv1.DeploymentSpec) int {
	if s.Replicas == nil {
		return 1
	}
	return int(*s.Replicas)
}

// wanted is how many replicas the Deployment should have.
func (d *deployment) wanted() int {
	switch {
	case d.removed:
		return 0
	case d.scaled != nil:
		return *d.scaled
	default:
		return replicas(d.spec)
	}
}

func (d *deployment) pod(name string) *pod {
	i := slices.IndexFunc(d.pods, func(p *pod) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return d.pods[i]
}

// counts tells how many pods are ready, and how many are of the current template.
func (d *deployment) counts() (ready, updated, old int) {
	for _, p := range d.pods {
		switch {
		case p.status.terminating:
			continue
		case p.hash == d.hash:
			updated++
		default:
			old++
		}
		if p.status.ready {
			ready++
		}
	}
	return ready, updated, old
}

// settled is whether what runs is what is wanted.
func (d *deployment) settled() bool {
	ready, updated, old := d.counts()
	return ready == d.wanted() && updated == d.wanted() && old == 0
}

// plan is what one look at a Deployment leads to.
type plan struct {
	create int
	delete []*pod
	// again is when to look again though nothing happens until then: when a ready
	// pod becomes available.
	again time.Time
}

// plan decides the next step. It changes nothing.
func (d *deployment) plan(now time.Time) (plan, error) {
	minReady := time.Duration(d.spec.MinReadySeconds) * time.Second
	sets := byHash(d.pods)
	var out plan
	size := func(hash string) rollout.Set {
		s := rollout.Set{Replicas: len(sets[hash])}
		for _, p := range sets[hash] {
			if p.status.available(now, minReady) {
				s.Available++
			} else if at := p.status.readySince.Add(minReady); p.status.ready && (out.again.IsZero() || at.Before(out.again)) {
				out.again = at
			}
		}
		return s
	}
	current := size(d.hash)
	hashes := slices.SortedFunc(maps.Keys(sets), func(a, b string) int { return d.revisions[a] - d.revisions[b] })
	hashes = slices.DeleteFunc(hashes, func(h string) bool { return h == d.hash })
	var old []rollout.Set
	for _, hash := range hashes {
		old = append(old, size(hash))
	}

	var want int
	var wantOld []int
	if d.spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		left := 0
		for _, p := range d.pods {
			if p.hash != d.hash {
				left++
			}
		}
		want, wantOld = rollout.Recreate(d.wanted(), left, old)
	} else {
		budget, err := rollout.Resolve(d.spec.Strategy.RollingUpdate, d.wanted())
		if err != nil {
			return plan{}, fmt.Errorf("rolling update of %s: %w", d.name, err)
		}
		want, wantOld = rollout.Rolling(d.wanted(), budget, current, old)
	}
	out.create = max(0, want-current.Replicas)
	out.delete = append(out.delete, victims(sets[d.hash])[:max(0, current.Replicas-want)]...)
	for i, hash := range hashes {
		out.delete = append(out.delete, victims(sets[hash])[:old[i].Replicas-wantOld[i]]...)
	}
	return out, nil
}

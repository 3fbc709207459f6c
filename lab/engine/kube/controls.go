package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"spillway.dev/lab/fault"
	"spillway.dev/platform/mesh"
)

// keptKey is where, in the ConfigMap of the mesh's controls, programs that break
// the mesh leave to each other what is in force.
const keptKey = "faults.json"

const (
	// steerPatience bounds what a fault does to pods and StatefulSets.
	steerPatience = 30 * time.Second
	// writeAgain is the wait after a write of the controls that failed.
	writeAgain = time.Second
)

// document is what the ConfigMap of the controls holds.
type document struct {
	controls mesh.Controls
	kept     fault.Kept
}

// parse reads the ConfigMap's data.
func parse(data map[string]string) (document, error) {
	controls, err := mesh.ParseControls([]byte(data[mesh.ControlsKey]))
	if err != nil {
		return document{}, err
	}
	d := document{controls: controls}
	if text := data[keptKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &d.kept); err != nil {
			return document{}, fmt.Errorf("%s: %w", keptKey, err)
		}
	}
	return d, nil
}

// data is the document as a ConfigMap holds it.
func (d document) data() (map[string]string, error) {
	if err := d.controls.Validate(); err != nil {
		return nil, err
	}
	controls, err := json.MarshalIndent(d.controls, "", "  ")
	if err != nil {
		return nil, err
	}
	kept, err := json.MarshalIndent(d.kept, "", "  ")
	if err != nil {
		return nil, err
	}
	return map[string]string{mesh.ControlsKey: string(controls) + "\n", keptKey: string(kept) + "\n"}, nil
}

// controls is the fault.Mesh of a cluster: it writes what the control plane is to
// do to a ConfigMap, soon after it was asked to. flush waits for that.
type controls struct {
	cluster *Cluster
	kept    func() (fault.Kept, error)
	changed chan struct{} // of one element

	writing sync.Mutex        // held while the ConfigMap is written
	version string            // of the ConfigMap that was read or written last; empty: there is none
	written map[string]string // its data

	mu   sync.Mutex
	want mesh.Controls
}

// readControls reads what is in force.
func readControls(ctx context.Context, c *Cluster) (*controls, fault.Kept, error) {
	k := &controls{cluster: c, changed: make(chan struct{}, 1)}
	found, err := c.client.CoreV1().ConfigMaps(c.namespace).Get(ctx, mesh.ControlsName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return k, fault.Kept{}, nil
	}
	if err != nil {
		return nil, fault.Kept{}, answer(err)
	}
	d, err := parse(found.Data)
	if err != nil {
		return nil, fault.Kept{}, status.Errorf(codes.FailedPrecondition, "the ConfigMap %s of %s can't be read: %v; delete it to begin without faults and knobs", mesh.ControlsName, c.Where(), err)
	}
	k.version, k.written, k.want = found.ResourceVersion, found.Data, d.controls
	return k, d.kept, nil
}

// run writes what changes until ctx ends, and tries again for as long as that
// fails.
func (k *controls) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
		}
		if k.flush(ctx) == nil {
			continue
		}
		again := time.NewTimer(writeAgain)
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
			k.signal()
		}
	}
}

// flush writes what is wanted unless that is what was written.
func (k *controls) flush(ctx context.Context) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	kept, err := k.kept()
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	k.mu.Lock()
	d := document{controls: k.want, kept: kept}
	data, err := d.data()
	k.mu.Unlock()
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if maps.Equal(data, k.written) {
		return nil
	}
	objects := k.cluster.client.CoreV1().ConfigMaps(k.cluster.namespace)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: mesh.ControlsName, ResourceVersion: k.version}, Data: data}
	var now *corev1.ConfigMap
	if k.version == "" {
		now, err = objects.Create(ctx, object, metav1.CreateOptions{FieldManager: Manager})
	} else {
		now, err = objects.Update(ctx, object, metav1.UpdateOptions{FieldManager: Manager})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return status.Errorf(codes.Aborted, "another program changes faults or knobs of %s at this moment; try again", k.cluster.Where())
	case err != nil:
		return answer(err)
	}
	k.version, k.written = now.ResourceVersion, data
	return nil
}

func (k *controls) signal() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *controls) set(change func(*mesh.Controls)) {
	k.mu.Lock()
	change(&k.want)
	k.mu.Unlock()
	k.signal()
}

// SetMeshFaults implements fault.Mesh.
func (k *controls) SetMeshFaults(faults map[string][]mesh.Fault) {
	own := make(map[string][]mesh.Fault, len(faults))
	for callee, all := range faults {
		own[callee] = slices.Clone(all)
	}
	k.set(func(c *mesh.Controls) { c.Faults = own })
}

// SetKnobs implements fault.Mesh.
func (k *controls) SetKnobs(knobs map[string]map[string]string) {
	own := make(map[string]map[string]string, len(knobs))
	for service, values := range knobs {
		if len(values) > 0 {
			own[service] = maps.Clone(values)
		}
	}
	k.set(func(c *mesh.Controls) { c.Knobs = own })
}

// SetEndpointUpdates implements fault.Mesh.
func (k *controls) SetEndpointUpdates(delay time.Duration, drop bool) {
	k.set(func(c *mesh.Controls) { c.Endpoints = mesh.EndpointNews{Delay: delay, Drop: drop} })
}

// Pause implements fault.Mesh: it can't be done here.
func (k *controls) Pause(workload string, _ int) ([]string, error) {
	return nil, status.Errorf(codes.Unimplemented,
		"replicas of %s can't be paused in a cluster: their images hold no program that could send SIGSTOP; slow them down with `spillway fault slow-down %[1]s --factor 1000`, or kill them", workload)
}

// Resume implements fault.Mesh: nothing is ever paused here.
func (k *controls) Resume(string, int) ([]string, error) { return nil, nil }

// Kill implements fault.Mesh.
func (k *controls) Kill(workload string, n int) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), steerPatience)
	defer cancel()
	return k.cluster.Kill(ctx, workload, n)
}

// StopStore implements fault.Mesh: the store's StatefulSet gets no replicas.
func (k *controls) StopStore(ctx context.Context, name string) error {
	sets := k.cluster.client.AppsV1().StatefulSets(k.cluster.namespace)
	set, err := sets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return answer(err)
	}
	if n := wanted(set.Spec.Replicas); n > 0 {
		if set.Annotations == nil {
			set.Annotations = make(map[string]string)
		}
		set.Annotations[storeReplicas] = fmt.Sprint(n)
	}
	set.Spec.Replicas = new(int32)
	_, err = sets.Update(ctx, set, metav1.UpdateOptions{FieldManager: Manager + "-fault"})
	return answer(err)
}

// storeReplicas is how many replicas a store had before it was stopped.
const storeReplicas = "spillway.dev/replicas"

// StartStore implements fault.Mesh: the store gets the replicas that it had. It is
// ready some seconds later.
func (k *controls) StartStore(ctx context.Context, name string) error {
	sets := k.cluster.client.AppsV1().StatefulSets(k.cluster.namespace)
	set, err := sets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return answer(err)
	}
	n := int32(1)
	if text, there := set.Annotations[storeReplicas]; there {
		if _, err := fmt.Sscan(text, &n); err != nil {
			return status.Errorf(codes.FailedPrecondition, "StatefulSet %s: annotation %s is %q, give a number", name, storeReplicas, text)
		}
	}
	delete(set.Annotations, storeReplicas)
	set.Spec.Replicas = &n
	_, err = sets.Update(ctx, set, metav1.UpdateOptions{FieldManager: Manager + "-fault"})
	return answer(err)
}

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"spillway.dev/platform/mesh"
)

// inventory is the ConfigMap that holds the list of what was applied, for who
// takes it away again, and its key.
const (
	inventory    = "spillway-applied"
	inventoryKey = "objects.json"
)

// Apply makes the cluster what the manifests say, a YAML stream, by server-side
// apply, and deletes what an earlier one had applied and they do not have. Twice
// the same changes nothing. The number of replicas of a workload that an
// autoscaler sets stays as it is, unless reset is given. Progress is told of
// each object that is deleted, and of those that are made or changed. It may be
// nil.
func (c *Cluster) Apply(ctx context.Context, manifests []byte, reset bool, progress func(string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	objects, err := split(manifests)
	if err != nil {
		return err
	}
	if err := c.allowed(ctx, objects); err != nil {
		return err
	}
	before, err := c.applied(ctx)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	var now []reference
	for _, o := range objects {
		now = append(now, referenceTo(o))
	}
	mine := func(o *unstructured.Unstructured) bool {
		return o.GetKind() == "Namespace" && o.GetName() == c.namespace
	}
	byAutoscaler := scaled(objects)
	for i, o := range objects {
		if !reset && byAutoscaler[o.GetNamespace()+"/"+o.GetName()] && (o.GetKind() == "Deployment" || o.GetKind() == "StatefulSet") {
			if err := c.keepReplicas(ctx, o); err != nil {
				return err
			}
		}
		changed, err := c.applyOne(ctx, o)
		if err != nil {
			return fmt.Errorf("apply %s in %s: %w", now[i], c.Where(), err)
		}
		if changed != "" {
			progress(fmt.Sprintf("%s %s", now[i], changed))
		}
		// The list is there before what it lists: what was begun can be taken away.
		if i == len(objects)-1 || mine(o) || i == 0 && !slices.ContainsFunc(objects, mine) {
			if err := c.write(ctx, slices.Concat(left(before, now), now)); err != nil {
				return err
			}
		}
	}
	gone := left(before, now)
	if err := c.remove(ctx, gone, progress); err != nil {
		return err
	}
	for _, r := range gone { // what is kept is still ours
		if kept(r) != "" {
			now = append(now, r)
		}
	}
	return c.write(ctx, now)
}

// allowed refuses objects in namespaces that are not marked, and manifests that put
// the mesh elsewhere than it is looked for.
func (c *Cluster) allowed(ctx context.Context, objects []*unstructured.Unstructured) error {
	made := make(map[string]bool)
	for _, o := range objects {
		if o.GetKind() == "Namespace" {
			made[o.GetName()] = true
		}
	}
	seen := map[string]bool{"": true}
	for _, o := range objects {
		mapping, err := c.mapping(referenceTo(o))
		if err != nil {
			return err
		}
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace && o.GetNamespace() == "" {
			o.SetNamespace(c.namespace)
		}
		namespace := o.GetNamespace()
		if o.GetKind() == "Namespace" {
			namespace = o.GetName()
		}
		if seen[namespace] {
			continue
		}
		seen[namespace] = true
		ns, err := c.client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && made[namespace] {
			continue // it is made here
		}
		if err := marked(c.context, namespace, ns, err); err != nil {
			// kube-system and the like have Roles that let an API server ask ours.
			if o.GetKind() == "RoleBinding" && ns != nil && ns.Name == metav1.NamespaceSystem {
				delete(seen, namespace)
				continue
			}
			return fmt.Errorf("the manifests have %s: %w", referenceTo(o), err)
		}
	}
	if !seen[c.namespace] {
		return fmt.Errorf("the manifests put nothing into namespace %s: give the one that they are about with --namespace", c.namespace)
	}
	return nil
}

// keepReplicas puts the number of replicas that a workload has into its manifest.
// Left out, server-side apply would take it away where it was applied before.
func (c *Cluster) keepReplicas(ctx context.Context, o *unstructured.Unstructured) error {
	client, err := c.resource(referenceTo(o))
	if err != nil {
		return err
	}
	there, err := client.Get(ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	n, found, err := unstructured.NestedInt64(there.Object, "spec", "replicas")
	if err != nil || !found {
		return err
	}
	return unstructured.SetNestedField(o.Object, n, "spec", "replicas")
}

// applyOne applies an object and tells what became of it: "created", "changed" or
// nothing.
func (c *Cluster) applyOne(ctx context.Context, o *unstructured.Unstructured) (string, error) {
	client, err := c.resource(referenceTo(o))
	if err != nil {
		return "", err
	}
	before, err := client.Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return "", err
	}
	created := err != nil
	text, err := json.Marshal(o.Object)
	if err != nil {
		return "", err
	}
	force := true
	after, err := client.Patch(ctx, o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{
		FieldManager: Manager, Force: &force, FieldValidation: metav1.FieldValidationStrict,
	})
	switch {
	case err != nil:
		return "", err
	case created:
		return "created", nil
	case before.GetGeneration() != after.GetGeneration() || before.GetGeneration() == 0 && before.GetResourceVersion() != after.GetResourceVersion():
		return "changed", nil
	}
	return "", nil
}

// Down deletes what Apply has applied, but for namespaces and what was sold, and
// waits until it is gone.
func (c *Cluster) Down(ctx context.Context, progress func(string)) error {
	before, err := c.applied(ctx)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.remove(ctx, left(before, nil), progress); err != nil {
		return err
	}
	for _, name := range []string{mesh.ControlsName, inventory} {
		err := c.client.CoreV1().ConfigMaps(c.namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete ConfigMap %s in %s: %w", name, c.Where(), err)
		}
	}
	return nil
}

// remove deletes objects in the order given, with what they own, and waits until
// all of them are gone.
func (c *Cluster) remove(ctx context.Context, gone []reference, progress func(string)) error {
	var deleted []reference
	for _, r := range gone {
		if why := kept(r); why != "" {
			progress(fmt.Sprintf("%s kept: %s", r, why))
			continue
		}
		client, err := c.resource(r)
		if meta.IsNoMatchError(err) {
			continue // its kind is gone
		}
		if err != nil {
			return err
		}
		foreground := metav1.DeletePropagationForeground
		err = client.Delete(ctx, r.Name, metav1.DeleteOptions{PropagationPolicy: &foreground})
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return fmt.Errorf("delete %s in %s: %w", r, c.Where(), err)
		}
		deleted = append(deleted, r)
		progress(fmt.Sprintf("%s deleted", r))
	}
	return c.awaitGone(ctx, deleted)
}

// look again at the cluster after this time, where there is no event to wait for.
const lookAgain = 300 * time.Millisecond

func (c *Cluster) awaitGone(ctx context.Context, gone []reference) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		var last error
		gone = slices.DeleteFunc(gone, func(r reference) bool {
			client, err := c.resource(r)
			if err == nil {
				_, err = client.Get(ctx, r.Name, metav1.GetOptions{})
			}
			if err != nil && !apierrors.IsNotFound(err) {
				last = err
			}
			return apierrors.IsNotFound(err) || meta.IsNoMatchError(err)
		})
		if len(gone) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s and %d more are not gone yet: %w", gone[0], len(gone)-1, errors.Join(ctx.Err(), last))
		}
	}
}

// applied lists what was applied.
func (c *Cluster) applied(ctx context.Context) ([]reference, error) {
	list, err := c.client.CoreV1().ConfigMaps(c.namespace).Get(ctx, inventory, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var all []reference
	if err := json.Unmarshal([]byte(list.Data[inventoryKey]), &all); err != nil {
		return nil, fmt.Errorf("the ConfigMap %s of %s can't be read: %w; delete it, and then what it was about", inventory, c.Where(), err)
	}
	return all, nil
}

// write keeps the list of what was applied.
func (c *Cluster) write(ctx context.Context, all []reference) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	object := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: inventory},
		Data:       map[string]string{inventoryKey: string(text)},
	}
	patch, err := json.Marshal(object)
	if err != nil {
		return err
	}
	force := true
	_, err = c.client.CoreV1().ConfigMaps(c.namespace).Patch(ctx, inventory, types.ApplyPatchType, patch,
		metav1.PatchOptions{FieldManager: Manager, Force: &force})
	if err != nil {
		return fmt.Errorf("write the list of what is applied to ConfigMap %s of %s: %w", inventory, c.Where(), err)
	}
	return nil
}

// mapping finds the API of a kind.
func (c *Cluster) mapping(r reference) (*meta.RESTMapping, error) {
	kind, err := r.kind()
	if err != nil {
		return nil, err
	}
	mapping, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset() // it may have come since
		mapping, err = c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the cluster of context %s has no %s %s, install what serves it: %w", r, c.context, r.APIVersion, r.Kind, err)
	}
	return mapping, nil
}

// resource is the API by which an object is reached.
func (c *Cluster) resource(r reference) (dynamic.ResourceInterface, error) {
	mapping, err := c.mapping(r)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.objects.Resource(mapping.Resource).Namespace(r.Namespace), nil
	}
	return c.objects.Resource(mapping.Resource), nil
}

// WaitReady returns when every workload has the replicas that it wants, ready and
// of its latest template. Progress is told when the number of one changes. When
// ctx ends first the error says who is missing and why.
func (c *Cluster) WaitReady(ctx context.Context, progress func(string)) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	told := make(map[string]string)
	for {
		s, err := c.read(ctx)
		var missing []string
		if err == nil {
			missing = s.missing()
			for _, w := range s.workloads() {
				text := fmt.Sprintf("%s: %d of %d ready", w.GetName(), w.GetReady(), w.GetDesired())
				if told[w.GetName()] != text && progress != nil {
					progress(text)
				}
				told[w.GetName()] = text
			}
			if len(missing) == 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready in %s: %w", c.Where(), errors.Join(errors.New(strings.Join(missing, "; ")), err, ctx.Err()))
		}
	}
}

// missing says of each workload that has not settled what it waits for.
func (s state) missing() []string {
	var out []string
	say := func(name string, selector *metav1.LabelSelector, ready, wanted int32) {
		text := fmt.Sprintf("%s has %d of %d", name, ready, wanted)
		for _, r := range s.replicas(selector) {
			if !r.GetReady() && r.GetReason() != "" {
				text += " (" + r.GetName() + ": " + r.GetReason() + ")"
				break
			}
		}
		out = append(out, text)
	}
	for i := range s.deployments {
		d, n := &s.deployments[i], wanted(s.deployments[i].Spec.Replicas)
		if now := d.Status; now.ObservedGeneration < d.Generation || now.UpdatedReplicas != n || now.Replicas != n || now.ReadyReplicas != n {
			say(d.Name, d.Spec.Selector, now.ReadyReplicas, n)
		}
	}
	for i := range s.statefulSets {
		d, n := &s.statefulSets[i], wanted(s.statefulSets[i].Spec.Replicas)
		if now := d.Status; now.ObservedGeneration < d.Generation || now.UpdatedReplicas != n || now.ReadyReplicas != n {
			say(d.Name, d.Spec.Selector, now.ReadyReplicas, n)
		}
	}
	return out
}

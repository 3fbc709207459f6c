package kube

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"spillway.dev/platform/mesh"
)

// nameLabel is the label by which the objects of a workload are known.
const nameLabel = "app.kubernetes.io/name"

// quickly is the grace of pods that nobody needs any more: kubelet ends them in
// order of its own, but does not wait for a drain.
const quickly = int64(1)

// Empty deletes everything that an earlier use may have left in the namespace:
// autoscalers, workloads and their pods, what they have stored, and the controls.
// What an Apply brings afterwards is as new. Only the control plane goes on, which
// keeps nothing, and the API server asks it for metrics. Empty returns when all is
// gone.
func (c *Cluster) Empty(ctx context.Context) error {
	background := metav1.DeletePropagationBackground
	drop := metav1.DeleteOptions{PropagationPolicy: &background}
	all, own := metav1.ListOptions{}, metav1.ListOptions{LabelSelector: nameLabel + "!=" + controlPlane}
	apps, core := c.client.AppsV1(), c.client.CoreV1()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		// First who would scale what is being deleted.
		{"the autoscalers", func() error {
			return c.client.AutoscalingV2().HorizontalPodAutoscalers(c.namespace).DeleteCollection(ctx, drop, all)
		}},
		{"the Deployments", func() error { return apps.Deployments(c.namespace).DeleteCollection(ctx, drop, own) }},
		{"the ReplicaSets", func() error { return apps.ReplicaSets(c.namespace).DeleteCollection(ctx, drop, own) }},
		{"the StatefulSets", func() error { return apps.StatefulSets(c.namespace).DeleteCollection(ctx, drop, own) }},
		{"the pods", func() error { return c.untilNone(ctx, func() (int, error) { return c.dropPods(ctx, own) }) }},
		{"the volumes", func() error {
			claims := core.PersistentVolumeClaims(c.namespace)
			if err := claims.DeleteCollection(ctx, drop, all); err != nil {
				return err
			}
			return c.untilNone(ctx, func() (int, error) {
				left, err := claims.List(ctx, all)
				if err != nil {
					return 0, err
				}
				return len(left.Items), nil
			})
		}},
		{"the controls", func() error {
			err := core.ConfigMaps(c.namespace).Delete(ctx, mesh.ControlsName, metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("delete %s of %s: %w", step.what, c.Where(), err)
		}
	}
	return nil
}

// dropPods deletes the pods that are not being deleted yet, also those that a
// controller still made meanwhile, and returns how many there are.
func (c *Cluster) dropPods(ctx context.Context, which metav1.ListOptions) (int, error) {
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, which)
	if err != nil {
		return 0, err
	}
	grace := quickly
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds <= grace {
			continue
		}
		err := c.client.CoreV1().Pods(c.namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, err
		}
	}
	return len(pods.Items), nil
}

// untilNone looks until nothing is left.
func (c *Cluster) untilNone(ctx context.Context, left func() (int, error)) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		n, err := left()
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d are not gone yet: %w", n, ctx.Err())
		}
	}
}

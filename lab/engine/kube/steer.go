package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// restartedAt is what a restart changes in a workload's template.
const restartedAt = "spillway.dev/restarted-at"

func unknownWorkload(name string, there []string) error {
	slices.Sort(there)
	text := "none"
	if len(there) > 0 {
		text = fmt.Sprint(there)
	}
	return status.Errorf(codes.NotFound, "no workload %q runs in the mesh, these do: %s", name, text)
}

// SetReplicas sets the number of replicas of a Deployment or StatefulSet and
// returns the one that held before. An autoscaler may change it again. Errors of
// this and the other methods that steer the mesh carry a gRPC status.
func (c *Cluster) SetReplicas(ctx context.Context, name string, n int) (previous int, err error) {
	scales := c.client.AppsV1()
	get, update := scales.Deployments(c.namespace).GetScale, scales.Deployments(c.namespace).UpdateScale
	for tries := 0; ; tries++ {
		scale, err := get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			get, update = scales.StatefulSets(c.namespace).GetScale, scales.StatefulSets(c.namespace).UpdateScale
			scale, err = get(ctx, name, metav1.GetOptions{})
		}
		if apierrors.IsNotFound(err) {
			s, err := c.read(ctx)
			if err == nil {
				_, err = s.podsOf(name)
			}
			return 0, cmp.Or(err, status.Errorf(codes.NotFound, "no workload %q runs in the mesh", name))
		}
		if err != nil {
			return 0, answer(err)
		}
		previous = int(scale.Spec.Replicas)
		scale.Spec = autoscalingv1.ScaleSpec{Replicas: int32(n)}
		_, err = update(ctx, name, scale, metav1.UpdateOptions{FieldManager: Manager + "-scale"})
		// Somebody else, such as an autoscaler, changed it in this moment.
		if apierrors.IsConflict(err) && tries < 10 {
			continue
		}
		return previous, answer(err)
	}
}

// Kill deletes the first n pods of a workload, the oldest first, without grace:
// kubelet ends their processes with SIGKILL. It returns the names of those that it
// could delete.
func (c *Cluster) Kill(ctx context.Context, workload string, n int) ([]string, error) {
	s, err := c.read(ctx)
	if err != nil {
		return nil, answer(err)
	}
	pods, err := s.podsOf(workload)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(pods) == 0 {
		return nil, status.Errorf(codes.NotFound, "%s has no replica in %s", workload, c.Where())
	}
	return c.kill(ctx, pods[:min(n, len(pods))])
}

// KillOne deletes one pod of a workload, as Kill does.
func (c *Cluster) KillOne(ctx context.Context, workload, pod string) ([]string, error) {
	s, err := c.read(ctx)
	if err != nil {
		return nil, answer(err)
	}
	pods, err := s.podsOf(workload)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range pods {
		if p.Name == pod {
			return c.kill(ctx, []*corev1.Pod{p})
		}
		names = append(names, p.Name)
	}
	return nil, status.Errorf(codes.NotFound, "%s has no replica %q, it has %v", workload, pod, names)
}

func (c *Cluster) kill(ctx context.Context, pods []*corev1.Pod) (killed []string, err error) {
	for _, p := range pods {
		gone := c.client.CoreV1().Pods(c.namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64),
			// Another one by the same name, a StatefulSet's, is not meant.
			Preconditions: metav1.NewUIDPreconditions(string(p.UID)),
		})
		switch {
		case gone == nil:
			killed = append(killed, p.Name)
		case !apierrors.IsNotFound(gone) && !apierrors.IsConflict(gone):
			err = errors.Join(err, answer(gone))
		}
	}
	return killed, err
}

// Restart replaces every pod of a workload by a rolling update.
func (c *Cluster) Restart(ctx context.Context, workload string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{restartedAt: time.Now().Format(time.RFC3339Nano)}}}}})
	if err != nil {
		return err
	}
	options := metav1.PatchOptions{FieldManager: Manager + "-restart"}
	_, err = c.client.AppsV1().Deployments(c.namespace).Patch(ctx, workload, types.StrategicMergePatchType, patch, options)
	if apierrors.IsNotFound(err) {
		_, err = c.client.AppsV1().StatefulSets(c.namespace).Patch(ctx, workload, types.StrategicMergePatchType, patch, options)
	}
	if !apierrors.IsNotFound(err) {
		return answer(err)
	}
	s, err := c.read(ctx)
	if err == nil {
		_, err = s.podsOf(workload)
	}
	return err
}

// answer is an error of the API server with a gRPC status.
func answer(err error) error {
	if err == nil {
		return nil
	}
	code := codes.Unknown
	switch {
	case apierrors.IsNotFound(err):
		code = codes.NotFound
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		code = codes.PermissionDenied
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		code = codes.InvalidArgument
	case apierrors.IsConflict(err):
		code = codes.Aborted
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	}
	return status.Error(code, err.Error())
}

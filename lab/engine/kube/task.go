package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"spillway.dev/platform/mesh"
)

// TaskFiles is the directory in which a task finds its files.
const TaskFiles = "/etc/spillway/task"

// taskLabel is the name under which network policies know tasks: load generators.
const taskLabel = "load"

// Task is a run of this program's own image in a pod of the mesh's namespace, which
// may call the services of the mesh as xds:///NAME.
type Task struct {
	// Name of the pod. Without two hyphens, or it would pass for a Deployment's.
	Name string
	// Args of spillway.
	Args []string
	// Files of TaskFiles, by name.
	Files map[string]string
}

// StartTask starts a task and does not wait for it. RemoveTask takes it away, also
// when starting failed.
func (c *Cluster) StartTask(ctx context.Context, t Task) error {
	// Whoever chose where the services' images are has put this one beside them.
	gateway, err := c.client.AppsV1().Deployments(c.namespace).Get(ctx, "gateway", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the image of a task: %w", err)
	}
	image, err := labImage(gateway.Spec.Template.Spec.Containers[0].Image)
	if err != nil {
		return err
	}
	files := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: t.Name}, Data: t.Files}
	if _, err := c.client.CoreV1().ConfigMaps(c.namespace).Create(ctx, files, metav1.CreateOptions{FieldManager: Manager}); err != nil {
		return fmt.Errorf("give task %s its files: %w", t.Name, err)
	}
	if _, err := c.client.CoreV1().Pods(c.namespace).Create(ctx, t.pod(image), metav1.CreateOptions{FieldManager: Manager}); err != nil {
		return fmt.Errorf("start task %s: %w", t.Name, err)
	}
	return nil
}

// labImage is the image of this program, by that of the gateway.
func labImage(gateway string) (string, error) {
	dir, name := path.Split(gateway)
	tag, found := strings.CutPrefix(name, "gateway")
	if !found || tag != "" && tag[0] != ':' || strings.Contains(tag, "@") {
		return "", fmt.Errorf("the gateway's image is %s: where the image of spillway itself is can't be told by it, name it REPOSITORY/gateway:TAG beside REPOSITORY/lab:TAG", gateway)
	}
	return dir + "lab" + tag, nil
}

// taskGrace is how long a task may take to end when it is told to: a journey under
// way is waited for.
const taskGrace = 120

func (t Task) pod(image string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: t.Name, Labels: map[string]string{nameLabel: taskLabel}},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			AutomountServiceAccountToken:  new(false),
			EnableServiceLinks:            new(false),
			TerminationGracePeriodSeconds: new(int64(taskGrace)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: taskLabel, Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Args: t.Args,
				Env: []corev1.EnvVar{
					{Name: "XDS_ADDRESS", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
						LocalObjectReference: corev1.LocalObjectReference{Name: meshConfig}, Key: "xds",
					}}},
					{Name: "GRPC_XDS_BOOTSTRAP_CONFIG", Value: mesh.Bootstrap("$(XDS_ADDRESS)", taskLabel, t.Name)},
				},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("200m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
				}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "files", MountPath: TaskFiles, ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "files", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: t.Name},
			}}}},
		},
	}
}

// TaskOutput streams what a task prints, from its begin until it ends or ctx does.
// It is an error while the task has not begun.
func (c *Cluster) TaskOutput(ctx context.Context, name string) (io.ReadCloser, error) {
	return c.client.CoreV1().Pods(c.namespace).GetLogs(name, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
}

// TaskEnded tells whether a task is over, and how it is in words.
func (c *Cluster) TaskEnded(ctx context.Context, name string) (ended bool, how string, err error) {
	pod, err := c.client.CoreV1().Pods(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, "", fmt.Errorf("look after task %s: %w", name, err)
	}
	how = string(pod.Status.Phase)
	if r := replica(pod); r.GetReason() != "" {
		how += ", " + r.GetReason()
	}
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed, how, nil
}

// StopTask has a task end as Ctrl-C does. Its pod stays, or its output would be
// gone: it is given a deadline that has passed.
func (c *Cluster) StopTask(ctx context.Context, name string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"activeDeadlineSeconds": 1}})
	if err != nil {
		return err
	}
	if _, err := c.client.CoreV1().Pods(c.namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: Manager}); err != nil {
		return fmt.Errorf("stop task %s: %w", name, err)
	}
	return nil
}

// RemoveTask takes a task away at once, with its output and files. One that is not
// there is none.
func (c *Cluster) RemoveTask(ctx context.Context, name string) error {
	err := c.client.CoreV1().Pods(c.namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove task %s: %w", name, err)
	}
	err = c.client.CoreV1().ConfigMaps(c.namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the files of task %s: %w", name, err)
	}
	return nil
}

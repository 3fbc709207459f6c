package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// behind finds a ready pod of a Service, and the port of the pod that a port of
// the Service, by name or number, stands for.
func (c *Cluster) behind(namespace, service, port string) backend {
	return func(ctx context.Context) (string, string, int32, error) {
		svc, err := c.client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
		if err != nil {
			return "", "", 0, fmt.Errorf("find Service %s of namespace %s: %w", service, namespace, err)
		}
		if len(svc.Spec.Selector) == 0 {
			return "", "", 0, fmt.Errorf("service %s of namespace %s selects no pods, a port can't be forwarded to it", service, namespace)
		}
		pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.FormatLabels(svc.Spec.Selector)})
		if err != nil {
			return "", "", 0, fmt.Errorf("list the pods of Service %s: %w", service, err)
		}
		pod, err := oneReady(svc, pods.Items)
		if err != nil {
			return "", "", 0, err
		}
		number, err := target(svc, pod, port)
		return namespace, pod.Name, number, err
	}
}

// oneReady is the first ready pod by name.
func oneReady(svc *corev1.Service, pods []corev1.Pod) (*corev1.Pod, error) {
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for i := range pods {
		if ready(&pods[i]) {
			return &pods[i], nil
		}
	}
	return nil, fmt.Errorf("service %s of namespace %s has no ready pod; `spillway ps` shows why", svc.Name, svc.Namespace)
}

// target is the port of a pod behind a port of a Service, by name or number.
func target(svc *corev1.Service, pod *corev1.Pod, port string) (int32, error) {
	for _, p := range svc.Spec.Ports {
		if p.Name != port && fmt.Sprint(p.Port) != port {
			continue
		}
		switch name := p.TargetPort.StrVal; {
		case name != "":
			return containerPort(pod, name)
		case p.TargetPort.IntVal != 0:
			return p.TargetPort.IntVal, nil
		default:
			return p.Port, nil
		}
	}
	return 0, fmt.Errorf("service %s of namespace %s has no port %s", svc.Name, svc.Namespace, port)
}

// containerPort finds a port of a pod by its name.
func containerPort(pod *corev1.Pod, name string) (int32, error) {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort, nil
			}
		}
	}
	return 0, fmt.Errorf("pod %s has no port %s", pod.Name, name)
}

// ready tells whether a pod takes calls.
func ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

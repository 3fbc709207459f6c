package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// The label by which a namespace says that it may be broken, and its value.
const (
	MarkLabel = "spillway.dev/lab"
	MarkValue = "true"
)

// marked tells why a namespace may not be touched: nil when it may. ns and err
// are what the API server answered when it was asked for it.
func marked(context, namespace string, ns *corev1.Namespace, err error) error {
	kubectl := "kubectl" + contextFlag(context)
	label := fmt.Sprintf("%s label namespace %s %s=%s", kubectl, namespace, MarkLabel, MarkValue)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("context %s has no namespace %s: make one that may be broken with `%s create namespace %[2]s && %[4]s`, or name another with --namespace",
			context, namespace, kubectl, label)
	case err != nil:
		return fmt.Errorf("look at namespace %s of context %s: %w", namespace, context, err)
	case ns.DeletionTimestamp != nil:
		return fmt.Errorf("namespace %s of context %s is being deleted: wait until it is gone and make it again", namespace, context)
	case ns.Labels[MarkLabel] != MarkValue:
		return fmt.Errorf("namespace %s of context %s is not marked as a lab, it lacks the label %s=%q: if everything in it may be broken, mark it with `%s`",
			namespace, context, MarkLabel, MarkValue, label)
	}
	return nil
}

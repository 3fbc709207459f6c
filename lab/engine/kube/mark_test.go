package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestOnlyAMarkedNamespaceMayBeTouched(t *testing.T) {
	labelled := func(value string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mesh", Labels: map[string]string{MarkLabel: value}}}
	}
	ending := labelled(MarkValue)
	ending.DeletionTimestamp = &metav1.Time{}
	gone := apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "mesh")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "mesh", nil)
	for name, c := range map[string]struct {
		ns    *corev1.Namespace
		err   error
		wants []string // nil: it may be touched
	}{
		"marked":       {ns: labelled(MarkValue)},
		"no label":     {ns: &corev1.Namespace{}, wants: []string{"not marked", MarkLabel, "kubectl --context lab label namespace mesh spillway.dev/lab=true"}},
		"other value":  {ns: labelled("false"), wants: []string{"not marked"}},
		"being ended":  {ns: ending, wants: []string{"being deleted"}},
		"not there":    {ns: &corev1.Namespace{}, err: gone, wants: []string{"create namespace mesh", "label namespace mesh"}},
		"not readable": {ns: &corev1.Namespace{}, err: forbidden, wants: []string{"forbidden"}},
	} {
		err := marked("lab", "mesh", c.ns, c.err)
		if (err == nil) != (c.wants == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.wants {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to say %q", name, err, want)
			}
		}
	}
}

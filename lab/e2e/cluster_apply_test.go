//go:build cluster

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"

	"spillway.dev/lab/engine/manifest"
)

// fresh takes away what an earlier run left, and makes the namespaces. One that
// is not marked as a lab is somebody's: the test refuses.
func (c *cluster) fresh() {
	c.Helper()
	c.dropAPIs()
	namespaces := c.client.CoreV1().Namespaces()
	for _, name := range []string{meshNamespace, observeNamespace} {
		old, err := namespaces.Get(c.Context(), name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			c.Fatal(err)
		case old.Labels[labLabel] != labMark:
			c.Fatalf("namespace %s is there and lacks the label %s=%s: these tests would delete it; name a context whose namespaces are a lab", name, labLabel, labMark)
		default:
			if err := namespaces.Delete(c.Context(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				c.Fatal(err)
			}
		}
	}
	for _, name := range []string{meshNamespace, observeNamespace} {
		c.eventually("namespace "+name+" is gone", func(ctx context.Context) error {
			_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.Join(err, fmt.Errorf("%s is still there", name))
		})
		_, err := namespaces.Create(c.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{labLabel: labMark},
		}}, metav1.CreateOptions{})
		if err != nil {
			c.Fatal(err)
		}
	}
}

// dropAPIs takes away the parts of the API that pods of the mesh serve: without
// their pods they answer nothing, and a namespace whose deletion can't list all
// APIs is never gone.
func (c *cluster) dropAPIs() {
	c.Helper()
	services := c.objects.Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	list, err := services.List(c.Context(), metav1.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	for _, api := range list.Items {
		namespace, _, err := unstructured.NestedString(api.Object, "spec", "service", "namespace")
		if err != nil {
			c.Fatal(err)
		}
		if namespace == meshNamespace || namespace == observeNamespace {
			if err := services.Delete(c.Context(), api.GetName(), metav1.DeleteOptions{}); err != nil {
				c.Fatal(err)
			}
		}
	}
}

// rendered is what the overlay describes, in the order in which it is applied:
// what others live in or are instances of comes first.
func rendered(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	text, err := manifest.Render(overlay)
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		object := new(unstructured.Unstructured)
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
	rank := func(o *unstructured.Unstructured) int {
		switch o.GetKind() {
		case "Namespace":
			return 0
		case "CustomResourceDefinition":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	return objects
}

// applyOverlay applies the overlay server-side. The API server must know every
// field and warn of nothing.
func applyOverlay(c *cluster) {
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.client.Discovery()))
	before := len(c.warned.all())
	kinds := map[string]int{}
	for _, object := range rendered(c.T) {
		if err := countToTheEnd(object); err != nil {
			c.Fatal(err)
		}
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			c.Fatalf("%s %s: %v", kind.Kind, object.GetName(), err)
		}
		text, err := json.Marshal(object)
		if err != nil {
			c.Fatal(err)
		}
		options := metav1.PatchOptions{FieldManager: "spillway-test", FieldValidation: metav1.FieldValidationStrict, Force: new(true)}
		resource := c.objects.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			namespace := object.GetNamespace()
			if namespace == "" {
				c.Fatalf("%s %s has no namespace", kind.Kind, object.GetName())
			}
			_, err = resource.Namespace(namespace).Patch(c.Context(), object.GetName(), types.ApplyPatchType, text, options)
		} else {
			_, err = resource.Patch(c.Context(), object.GetName(), types.ApplyPatchType, text, options)
		}
		if err != nil {
			c.Errorf("apply %s %s: %v", kind.Kind, object.GetName(), err)
		}
		kinds[kind.Kind]++
	}
	c.Logf("applied %v", kinds)
	for _, text := range c.warned.all()[before:] {
		c.Errorf("the API server warns: %s", text)
	}
	ns, err := c.client.CoreV1().Namespaces().Get(c.Context(), meshNamespace, metav1.GetOptions{})
	if err != nil {
		c.Fatal(err)
	}
	if ns.Labels[labLabel] != labMark {
		c.Errorf("the overlay takes the mark of a lab off namespace %s", meshNamespace)
	}
}

// countToTheEnd has replicas of the mesh wait for one more scrape when they end:
// without it the calls of their last seconds are counted by nobody, and "none
// ran twice" could not be told. 5 s of preStop, 10 s of drain and this stay
// below the grace period of 30 s.
func countToTheEnd(object *unstructured.Unstructured) error {
	if object.GetKind() != "Deployment" || !slices.Contains(everyService, object.GetName()) || object.GetNamespace() != meshNamespace {
		return nil
	}
	containers, _, err := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		return fmt.Errorf("%s: %d containers, not one: %w", object.GetName(), len(containers), err)
	}
	container := containers[0].(map[string]any)
	env, _, err := unstructured.NestedSlice(container, "env")
	if err != nil {
		return err
	}
	const name = "SPILLWAY_DRAIN_LAST_SCRAPE"
	env = slices.DeleteFunc(env, func(e any) bool { return e.(map[string]any)["name"] == name })
	container["env"] = append(env, map[string]any{"name": name, "value": "12s"})
	return unstructured.SetNestedSlice(object.Object, containers, "spec", "template", "spec", "containers")
}

// allReady waits until every pod of both namespaces is Ready.
func allReady(c *cluster) {
	c.eventually("every workload is there and all pods are Ready", func(ctx context.Context) error {
		for _, name := range append([]string{"conductor"}, everyService...) {
			d, err := c.deployment(ctx, name)
			if err != nil {
				return err
			}
			if err := settled(d); err != nil {
				return err
			}
		}
		for _, namespace := range []string{meshNamespace, observeNamespace} {
			pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			if len(pods.Items) == 0 {
				return fmt.Errorf("no pod in %s", namespace)
			}
			for _, pod := range pods.Items {
				if err := ready(pod); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func ready(pod corev1.Pod) error {
	if pod.Status.Phase == corev1.PodSucceeded { // of a Job
		return nil
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("%s/%s is not Ready: %s", pod.Namespace, pod.Name, pod.Status.Phase)
}

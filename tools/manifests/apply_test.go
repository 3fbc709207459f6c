//go:build cluster

package manifests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// added are the kinds of the manifests that Kubernetes has not. A cluster where
// nobody installed them can't be asked about them; their schemas are in
// testdata/crds.
var added = []string{
	"Certificate.cert-manager.io", "Issuer.cert-manager.io",
	"DestinationRule.networking.istio.io", "PeerAuthentication.security.istio.io", "ScaledObject.keda.sh", "VirtualService.networking.istio.io",
}

// server is an API server that is asked what it would say to objects. Nothing of
// them is stored, so that what it says of an object does not depend on the
// others, and none is sent twice.
type server struct {
	client  kubernetes.Interface
	objects dynamic.Interface
	mapper  meta.RESTMapper

	mu     sync.Mutex
	warned []string
	stands map[string]string // namespace and labels, to the namespace that stands in
	asked  map[string]bool   // objects
}

// HandleWarningHeader implements rest.WarningHandler.
func (s *server) HandleWarningHeader(_ int, _ string, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warned = append(s.warned, text)
}

func (s *server) warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.warned)
}

// connect uses the context that SPILLWAY_TEST_CONTEXT names, or the current one.
func connect(t *testing.T) *server {
	t.Helper()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: os.Getenv("SPILLWAY_TEST_CONTEXT")}).ClientConfig()
	if err != nil {
		t.Fatalf("no cluster: %v: run this with scripts/test-cluster", err)
	}
	s := &server{stands: map[string]string{}, asked: map[string]bool{}}
	config.QPS, config.Burst, config.WarningHandler = 200, 400, s
	s.client = kubernetes.NewForConfigOrDie(config)
	s.objects = dynamic.NewForConfigOrDie(config)
	s.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(s.client.Discovery()))
	return s
}

// standIn is an empty namespace that has the labels of one of the manifests, for
// admission looks at them. The real one may hold a mesh, whose objects are no
// blank to apply others to.
func (s *server) standIn(t *testing.T, name string, labels map[string]string) string {
	t.Helper()
	key := fmt.Sprint(name, labels)
	if s.stands[key] == "" {
		made, err := s.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "spillway-apply-", Labels: labels},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.stands[key] = made.Name
		t.Cleanup(func() {
			if err := s.client.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), made.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	return s.stands[key]
}

// apply tells what the server has against an object, the first time that it is
// asked: a refusal, a field that it does not know, or a warning. known is false
// when it does not know the kind.
func (s *server) apply(ctx context.Context, o *unstructured.Unstructured) (known bool, err error) {
	text, err := json.Marshal(o)
	if err != nil {
		return false, err
	}
	if s.asked[string(text)] {
		return true, nil
	}
	kind := o.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var resource dynamic.ResourceInterface = s.objects.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = s.objects.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	before := len(s.warnings())
	_, err = resource.Patch(ctx, o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: "spillway-apply-test", FieldValidation: metav1.FieldValidationStrict, Force: new(true),
	})
	errs := []error{err}
	for _, warning := range s.warnings()[before:] {
		errs = append(errs, fmt.Errorf("the API server warns: %s", warning))
	}
	if err = errors.Join(errs...); err != nil {
		err = fmt.Errorf("%s %s: %w", kind.Kind, o.GetName(), err)
	}
	s.asked[string(text)] = true
	return true, err
}

// objectsIn are those of a rendered stream as they are written: a type would
// drop what it does not know.
func objectsIn(text []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := new(unstructured.Unstructured)
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
}

// An API server takes every object of every combination, and of what observes a
// mesh: no unknown field, no warning. Kinds that it does not know are those of
// components that something installed has to bring, and no other.
func TestAServerTakesEveryCombination(t *testing.T) {
	s := connect(t)
	list := combinations(t)
	for _, set := range []string{"lite", "full", "metrics-server"} {
		list = append(list, Combination{Overlay: "observability/" + set})
	}
	custom, unknown, sent := map[string]bool{}, map[string]bool{}, 0
	// What observes the mesh lies in a namespace that the overlay makes.
	labels := map[string]map[string]string{}
	for _, c := range list {
		text, err := c.Render(k8s, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		all, err := objectsIn(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			if o.GetKind() == "Namespace" {
				labels[o.GetName()] = o.GetLabels()
			}
		}
		for _, o := range all {
			if name := o.GetNamespace(); name != "" {
				o.SetNamespace(s.standIn(t, name, labels[name]))
			}
			kind := o.GroupVersionKind().GroupKind().String()
			if slices.Contains(added, kind) {
				custom[kind] = true
			}
			known, err := s.apply(t.Context(), o)
			if err != nil {
				t.Errorf("%s: %v", c, err)
			}
			if !known {
				unknown[kind] = true
			}
			sent++
		}
	}
	for kind := range unknown {
		if !slices.Contains(added, kind) {
			t.Errorf("the server knows no %s, which nobody has to install", kind)
		}
	}
	if got := slices.Sorted(maps.Keys(custom)); !slices.Equal(got, slices.Sorted(slices.Values(added))) {
		t.Errorf("kinds that something installed brings are %v, not %v", got, added)
	}
	t.Logf("%d combinations, %d objects of which %d differ; left to the schemas in testdata/crds: %v",
		len(list), sent, len(s.asked), slices.Sorted(maps.Keys(unknown)))
	if len(s.asked) == 0 {
		t.Error("no object was sent")
	}
}

// What the test above relies on: an unknown field is refused, and what is accepted
// but unwise comes with a warning.
func TestAServerIsStrict(t *testing.T) {
	s := connect(t)
	namespace := s.standIn(t, "spillway", map[string]string{"pod-security.kubernetes.io/warn": "restricted"})
	for _, test := range []struct{ name, text, want string }{
		{"an unknown field", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {portss: [], ports: [{port: 1}]}\n", "portss"},
		{"a pod that may be root", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: a, image: a}]}
`, "the API server warns: would violate PodSecurity"},
	} {
		all, err := objectsIn([]byte(test.text))
		if err != nil {
			t.Fatal(err)
		}
		all[0].SetNamespace(namespace)
		if known, err := s.apply(t.Context(), all[0]); !known || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

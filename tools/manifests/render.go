package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Combination is an overlay, or any kustomization below k8s/, with components
// that are applied to it in their order.
type Combination struct {
	// Overlay is a directory below k8s/, such as "overlays/kind".
	Overlay string
	// Components are names of directories below k8s/components.
	Components []string
}

// Render renders a combination below k8s, the directory of that name. It writes a
// kustomization to the directory scratch, which must be there.
func (c Combination) Render(k8s, scratch string) ([]byte, error) {
	relative := func(names ...string) (string, error) {
		path, err := filepath.Abs(filepath.Join(append([]string{k8s}, names...)...))
		if err != nil {
			return "", err
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		from, err := filepath.EvalSymlinks(scratch)
		if err != nil {
			return "", err
		}
		return filepath.Rel(from, path)
	}
	k := types.Kustomization{TypeMeta: types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind}}
	overlay, err := relative(c.Overlay)
	if err != nil {
		return nil, fmt.Errorf("find k8s/%s: %w", c.Overlay, err)
	}
	k.Resources = []string{overlay}
	for _, name := range c.Components {
		path, err := relative("components", name)
		if err != nil {
			return nil, fmt.Errorf("find the component %s: %w", name, err)
		}
		k.Components = append(k.Components, path)
	}
	text, err := yaml.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("encode the kustomization: %w", err)
	}
	if err := os.WriteFile(filepath.Join(scratch, "kustomization.yaml"), text, 0o600); err != nil {
		return nil, fmt.Errorf("write the kustomization: %w", err)
	}
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), scratch)
	if err != nil {
		return nil, fmt.Errorf("render k8s/%s with components %v: %w", c.Overlay, c.Components, err)
	}
	return objects.AsYaml()
}

// Objects are what a rendered stream holds, in its order.
type Objects struct {
	// Typed are objects of kinds that Kubernetes has itself.
	Typed []runtime.Object
	// Custom are objects of kinds that something installed adds, which the types
	// here do not know.
	Custom []*unstructured.Unstructured
}

// Decode reads a YAML stream of objects. A field that a kind of Kubernetes' own
// does not have, or that is there twice, is an error; so is an object twice.
func Decode(text []byte) (Objects, error) {
	known := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(known))
	utilruntime.Must(apiregistrationv1.AddToScheme(known))
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	var objects Objects
	var errs []error
	seen := map[string]bool{}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, errors.Join(errs...)
		}
		if err != nil {
			return objects, fmt.Errorf("read manifests: %w", err)
		}
		var fields map[string]any
		if err := yaml.UnmarshalStrict(doc, &fields); err != nil {
			return objects, fmt.Errorf("read manifests: %w", err)
		}
		if len(fields) == 0 {
			continue
		}
		head := &unstructured.Unstructured{Object: fields}
		name := fmt.Sprintf("%s %s/%s", head.GroupVersionKind().GroupKind(), head.GetNamespace(), head.GetName())
		if seen[name] {
			errs = append(errs, fmt.Errorf("%s is there twice", name))
		}
		seen[name] = true
		object, _, err := decoder.Decode(doc, nil, nil)
		switch {
		case runtime.IsNotRegisteredError(err):
			objects.Custom = append(objects.Custom, head)
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		default:
			objects.Typed = append(objects.Typed, object)
		}
	}
}

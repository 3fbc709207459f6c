package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// newObject makes the Go type of a kind that this package knows.
var newObject = map[metav1.TypeMeta]func() any{
	{APIVersion: "apps/v1", Kind: "Deployment"}:                     func() any { return new(appsv1.Deployment) },
	{APIVersion: "v1", Kind: "Service"}:                             func() any { return new(corev1.Service) },
	{APIVersion: "v1", Kind: "ConfigMap"}:                           func() any { return new(corev1.ConfigMap) },
	{APIVersion: "v1", Kind: "PersistentVolumeClaim"}:               func() any { return new(corev1.PersistentVolumeClaim) },
	{APIVersion: "v1", Kind: "ServiceAccount"}:                      func() any { return new(corev1.ServiceAccount) },
	{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:          func() any { return new(policyv1.PodDisruptionBudget) },
	{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}: func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
}

// Decode reads a YAML stream of Kubernetes objects. A field that the object's
// type does not have is an error that names object and field, and the files
// below roots in which it stands.
func Decode(text []byte, roots ...string) (*Mesh, error) {
	mesh := &Mesh{ConfigMaps: map[string]*corev1.ConfigMap{}}
	ignored := ignoredSet{}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if err := mesh.add(doc, roots, ignored); err != nil {
			return nil, err
		}
	}
	mesh.Ignored = ignored.list()
	slices.SortFunc(mesh.Deployments, func(a, b *appsv1.Deployment) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(mesh.Services, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(mesh.HPAs, func(a, b *autoscalingv2.HorizontalPodAutoscaler) int { return strings.Compare(a.Name, b.Name) })
	return mesh, mesh.check()
}

func (m *Mesh) add(doc []byte, roots []string, ignored ignoredSet) error {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	if string(text) == "null" {
		return nil
	}
	var head struct {
		metav1.TypeMeta
		Metadata struct{ Name string }
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("read manifests: %w", err)
	}
	name := head.Kind + " " + head.Metadata.Name
	if head.Kind == "" || head.Metadata.Name == "" {
		return fmt.Errorf("an object of the manifests has no kind or no metadata.name: %.80s", text)
	}
	create, known := newObject[head.TypeMeta]
	if !known {
		ignored.add(head.Kind, whyKind+head.APIVersion+" "+head.Kind, head.Metadata.Name)
		return nil
	}
	object := create()
	strict, err := strictjson.UnmarshalStrict(text, object)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(strict) > 0 {
		return fmt.Errorf("%s: %w%s", name, errors.Join(strict...), blame(roots, head.TypeMeta, strict))
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	ignored.fields(head.Kind, head.Metadata.Name, fields)
	switch object := object.(type) {
	case *appsv1.Deployment:
		m.Deployments = append(m.Deployments, object)
	case *corev1.Service:
		m.Services = append(m.Services, object)
	case *corev1.ConfigMap:
		m.ConfigMaps[object.Name] = object
	case *corev1.PersistentVolumeClaim:
		m.Claims = append(m.Claims, object)
	case *autoscalingv2.HorizontalPodAutoscaler:
		m.HPAs = append(m.HPAs, object)
	}
	return nil
}

// check finds what Kubernetes would refuse, as far as the engine relies on it.
func (m *Mesh) check() error {
	var errs []error
	for _, d := range m.Deployments {
		spec := d.Spec.Template.Spec
		refuse := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("Deployment %s: %s", d.Name, fmt.Sprintf(format, args...)))
		}
		if d.Spec.Replicas != nil && *d.Spec.Replicas < 0 {
			refuse("spec.replicas is %d; it cannot be negative", *d.Spec.Replicas)
		}
		if len(spec.Containers) != 1 {
			refuse("it has %d containers; the local engine runs pods of exactly one", len(spec.Containers))
			continue
		}
		if len(spec.InitContainers) > 0 {
			refuse("it has init containers; the local engine runs none")
		}
		if spec.Containers[0].Image == "" {
			refuse("container %s names no image", spec.Containers[0].Name)
		}
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err != nil || selector.Empty() || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			refuse("spec.selector does not select the labels of its own template")
		}
		for _, v := range spec.Volumes {
			switch {
			case v.ConfigMap != nil:
				if m.ConfigMaps[v.ConfigMap.Name] == nil {
					refuse("volume %s: there is no ConfigMap %s", v.Name, v.ConfigMap.Name)
				}
			case v.PersistentVolumeClaim != nil:
				if !slices.ContainsFunc(m.Claims, func(c *corev1.PersistentVolumeClaim) bool { return c.Name == v.PersistentVolumeClaim.ClaimName }) {
					refuse("volume %s: there is no PersistentVolumeClaim %s", v.Name, v.PersistentVolumeClaim.ClaimName)
				}
			case v.EmptyDir == nil:
				refuse("volume %s: the local engine has configMap, emptyDir and persistentVolumeClaim volumes only", v.Name)
			}
		}
	}
	targets := map[string]string{}
	for _, h := range m.HPAs {
		target := h.Spec.ScaleTargetRef
		refuse := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("HorizontalPodAutoscaler %s: %s", h.Name, fmt.Sprintf(format, args...)))
		}
		if target.Kind != "Deployment" || m.Deployment(target.Name) == nil {
			refuse("spec.scaleTargetRef names %s %q; there is no such Deployment", target.Kind, target.Name)
		} else if other := targets[target.Name]; other != "" {
			refuse("spec.scaleTargetRef names Deployment %s, which %s scales already; two of them undo each other's work", target.Name, other)
		}
		targets[target.Name] = h.Name
		least := int32(1)
		if h.Spec.MinReplicas != nil {
			least = *h.Spec.MinReplicas
		}
		if least < 0 || h.Spec.MaxReplicas < max(least, 1) {
			refuse("it scales from spec.minReplicas %d to spec.maxReplicas %d; give a maximum of at least 1 and of at least the minimum", least, h.Spec.MaxReplicas)
		}
	}
	return errors.Join(errs...)
}

var index = regexp.MustCompile(`\[\d+\]`)

// blame looks for the files below roots in which the unknown fields stand.
// Kustomize merges patches from several files, so the rendered object does not
// tell; the same strict reading of every single file does.
func blame(roots []string, kind metav1.TypeMeta, unknown []error) string {
	var files []string
	for _, root := range roots {
		for _, file := range filesWith(root, kind, unknown) {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	if len(files) == 0 {
		return ""
	}
	return " (in " + strings.Join(files, ", ") + ")"
}

// filesWith lists the files below root, relative to it, in which an object of a
// kind has one of the unknown fields.
func filesWith(root string, kind metav1.TypeMeta, unknown []error) []string {
	plain := func(err error) string { return index.ReplaceAllString(err.Error(), "[]") }
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || (filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".yml") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			doc, err := reader.Read()
			if err != nil {
				return nil // its end, or a file that is not YAML: no culprit
			}
			var head metav1.TypeMeta
			text, err := yaml.YAMLToJSON(doc)
			if err != nil || json.Unmarshal(text, &head) != nil || head != kind {
				continue
			}
			found, _ := strictjson.UnmarshalStrict(text, newObject[kind]())
			for _, f := range found {
				if slices.ContainsFunc(unknown, func(u error) bool { return plain(u) == plain(f) }) {
					if rel, err := filepath.Rel(root, path); err == nil && !slices.Contains(files, rel) {
						files = append(files, rel)
					}
				}
			}
		}
	})
	if err != nil {
		return nil
	}
	return files
}

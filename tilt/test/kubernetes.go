package test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Object is a Kubernetes object.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Fields map[string]any `json:"-"`
}

func (o *Object) namespace() string {
	if o.Metadata.Namespace == "" {
		return "default" // what Tilt takes it for
	}
	return o.Metadata.Namespace
}

func (o *Object) String() string {
	return o.Kind + " " + o.namespace() + "/" + o.Metadata.Name
}

// at follows keys into an object's fields.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// pod is the pod template of a workload, nil for every other object.
func (o *Object) pod() map[string]any {
	path := []string{"spec", "template"}
	switch o.Kind {
	case "Deployment", "StatefulSet", "DaemonSet", "Job":
	case "CronJob":
		path = []string{"spec", "jobTemplate", "spec", "template"}
	case "Pod":
		path = nil
	default:
		return nil
	}
	template, _ := at(o.Fields, path...).(map[string]any)
	return template
}

// Containers are those of a workload's pods, init containers included.
func (o *Object) Containers() (all []map[string]any) {
	for _, key := range []string{"containers", "initContainers"} {
		list, _ := at(o.pod(), "spec", key).([]any)
		for _, c := range list {
			all = append(all, c.(map[string]any))
		}
	}
	return all
}

// selects tells whether a Service selects the pods of a workload.
func (o *Object) selects(workload *Object) bool {
	wanted, _ := at(o.Fields, "spec", "selector").(map[string]any)
	labels, _ := at(workload.pod(), "metadata", "labels").(map[string]any)
	for key, value := range wanted {
		if labels[key] != value {
			return false
		}
	}
	return o.Kind == "Service" && len(wanted) > 0
}

// Resource is what Tilt shows as one.
type Resource struct {
	Objects  []*Object
	Deps     []string
	Labels   []string
	Forwards []Forward
	// Readiness is "ignore" where those that wait for the resource do not wait
	// until its pods are ready.
	Readiness string
}

// Forward is a port of this machine that leads into a pod, and the link to it.
type Forward struct {
	Local, Container int
	Name, Path       string
}

// options are one call of k8s_resource; they take effect at the end.
type options struct {
	name     string
	resource *Resource
	workload bool
	objects  []string
}

// Manifests remembers what was rendered and parsed. It is not safe for concurrent use.
type Manifests struct {
	rendered map[string]string    // by directory and the text of its kustomization
	parsed   map[string][]*Object // by the stream; read only
}

// NewManifests remembers nothing yet.
func NewManifests() *Manifests {
	return &Manifests{rendered: map[string]string{}, parsed: map[string][]*Object{}}
}

func (m *Manifests) parse(stream string) ([]*Object, error) {
	if objects, done := m.parsed[stream]; done {
		return objects, nil
	}
	objects, err := Parse(stream)
	if err == nil {
		m.parsed[stream] = objects
	}
	return objects, err
}

// Parse reads the objects of a YAML stream.
func Parse(stream string) (all []*Object, err error) {
	for document := range strings.SplitSeq(stream, "\n---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		o := &Object{}
		if err := errors.Join(yaml.Unmarshal([]byte(document), o), yaml.Unmarshal([]byte(document), &o.Fields)); err != nil {
			return nil, err
		}
		if o.Kind == "" || o.Metadata.Name == "" {
			return nil, fmt.Errorf("an object without kind or name:\n%s", document)
		}
		all = append(all, o)
	}
	return all, nil
}

// Render is `kustomize build`.
func Render(dir string) (string, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return "", err
	}
	text, err := built.AsYaml()
	return string(text), err
}

func (t *Tilt) kustomize(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var dir string
	if err := starlark.UnpackArgs(name, args, kwargs, "path_to_dir", &dir); err != nil {
		return nil, err
	}
	dir = filepath.Join(t.Root, dir)
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	key := filepath.Base(dir) + "\n" + string(text)
	if _, done := t.Manifests.rendered[key]; !done {
		rendered, err := Render(dir)
		if err != nil {
			return nil, err
		}
		t.Manifests.rendered[key] = rendered
	}
	return starlark.String(t.Manifests.rendered[key]), nil
}

func (t *Tilt) decodeYAMLStream(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var stream string
	if err := starlark.UnpackArgs(name, args, kwargs, "yaml", &stream); err != nil {
		return nil, err
	}
	objects, err := t.Manifests.parse(stream)
	if err != nil {
		return nil, err
	}
	list := starlark.NewList(nil)
	for _, o := range objects {
		v, err := value(o.Fields)
		if err != nil {
			return nil, err
		}
		if err := list.Append(v); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// value is decoded YAML as Starlark has it.
func value(v any) (starlark.Value, error) {
	switch v := v.(type) {
	case nil:
		return starlark.None, nil
	case bool:
		return starlark.Bool(v), nil
	case float64:
		if v == float64(int64(v)) {
			return starlark.MakeInt64(int64(v)), nil
		}
		return starlark.Float(v), nil
	case string:
		return starlark.String(v), nil
	case []any:
		list := starlark.NewList(nil)
		for _, e := range v {
			ev, err := value(e)
			if err := errors.Join(err, list.Append(ev)); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		d := starlark.NewDict(len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			ev, err := value(v[k])
			if err != nil {
				return nil, err
			}
			if err := d.SetKey(starlark.String(k), ev); err != nil {
				return nil, err
			}
		}
		return d, nil
	}
	return nil, fmt.Errorf("%T in YAML", v)
}

func (t *Tilt) k8sYAML(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var streams starlark.Value
	if err := starlark.UnpackArgs(name, args, kwargs, "yaml", &streams); err != nil {
		return nil, err
	}
	for _, stream := range texts(streams) {
		objects, err := t.Manifests.parse(stream)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			if slices.ContainsFunc(t.Objects, func(other *Object) bool { return other.String() == o.String() && other.APIVersion == o.APIVersion }) {
				return nil, fmt.Errorf("%s is there twice", o)
			}
			t.Objects = append(t.Objects, o)
		}
	}
	return starlark.None, nil
}

func (t *Tilt) k8sResource(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var workload, newName, readiness string
	var forwards, deps, objects, labels *starlark.List
	if err := starlark.UnpackArgs(name, args, kwargs, "workload?", &workload, "new_name?", &newName, "port_forwards?", &forwards,
		"resource_deps?", &deps, "objects?", &objects, "pod_readiness?", &readiness, "labels?", &labels); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"", "wait", "ignore"}, readiness) {
		return nil, fmt.Errorf("%s: pod_readiness is %q, not wait or ignore", name, readiness)
	}
	o := &options{name: workload, workload: workload != "", resource: &Resource{Readiness: readiness}}
	if !o.workload {
		o.name = newName
	} else if newName != "" {
		return nil, fmt.Errorf("%s: a workload is not renamed here", name)
	}
	if objects != nil {
		o.objects = texts(objects)
	}
	if o.name == "" || !o.workload && len(o.objects) == 0 {
		return nil, fmt.Errorf("%s: neither a workload nor objects with a name", name)
	}
	if slices.ContainsFunc(t.options, func(other *options) bool { return other.name == o.name }) {
		return nil, fmt.Errorf("%s was called for %s before", name, o.name)
	}
	if deps != nil {
		o.resource.Deps = texts(deps)
	}
	if labels != nil {
		o.resource.Labels = texts(labels)
	}
	if forwards != nil {
		for f := range starlark.Elements(forwards) {
			d := map[string]starlark.Value{}
			for _, item := range f.(*starlark.Dict).Items() {
				d[text(item[0])] = item[1]
			}
			var forward Forward
			if err := errors.Join(starlark.AsInt(d["local_port"], &forward.Local), starlark.AsInt(d["container_port"], &forward.Container)); err != nil {
				return nil, err
			}
			forward.Name, forward.Path = text(d["name"]), text(d["link_path"])
			o.resource.Forwards = append(o.resource.Forwards, forward)
		}
	}
	t.options = append(t.options, o)
	return starlark.None, nil
}

// assemble puts objects into resources: each workload with the Services that
// select its pods, then what k8s_resource was called for.
func (t *Tilt) assemble() error {
	rest := slices.Clone(t.Objects)
	for _, o := range t.Objects {
		if o.pod() == nil {
			continue
		}
		if t.Resources[o.Metadata.Name] != nil {
			return fmt.Errorf("two workloads are called %s: Tilt would give them longer names", o.Metadata.Name)
		}
		r := &Resource{Objects: []*Object{o}}
		rest = slices.DeleteFunc(rest, func(other *Object) bool {
			if other.selects(o) {
				r.Objects = append(r.Objects, other)
			}
			return other == o || other.selects(o)
		})
		t.Resources[o.Metadata.Name] = r
	}
	for _, o := range t.options {
		r := t.Resources[o.name]
		if (r != nil) != o.workload {
			return fmt.Errorf("k8s_resource for %s: there is %v workload of that name", o.name, map[bool]string{true: "a", false: "no"}[r != nil])
		}
		if r == nil {
			r = o.resource
			t.Resources[o.name] = r
		} else {
			r.Deps, r.Labels, r.Forwards, r.Readiness = o.resource.Deps, o.resource.Labels, o.resource.Forwards, o.resource.Readiness
		}
		for _, s := range o.objects {
			found := slices.IndexFunc(rest, func(object *Object) bool { return matches(s, object) })
			if found < 0 {
				return fmt.Errorf("k8s_resource for %s: no object, or none that is free, is %s", o.name, s)
			}
			r.Objects = append(r.Objects, rest[found])
			rest = slices.Delete(rest, found, found+1)
			if slices.ContainsFunc(rest, func(object *Object) bool { return matches(s, object) }) {
				return fmt.Errorf("k8s_resource for %s: more than one object is %s", o.name, s)
			}
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("in no resource: %v", rest)
	}
	return nil
}

var unescaped = regexp.MustCompile(`(?:[^:\\]|\\.)+`)

// matches is Tilt's object selector, name:kind:namespace, each part a whole word
// whatever its case; a colon in a name is escaped.
func matches(selector string, o *Object) bool {
	parts := unescaped.FindAllString(selector, -1)
	if len(parts) > 3 {
		return false
	}
	have := []string{o.Metadata.Name, o.Kind, o.namespace()}
	for i, part := range parts {
		if !strings.EqualFold(strings.ReplaceAll(part, `\:`, ":"), have[i]) {
			return false
		}
	}
	return true
}

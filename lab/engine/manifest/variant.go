package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"
)

// componentsDir is where the components of a variant are, below root.
const componentsDir = "components"

// Variant is what an experiment changes in an overlay. The zero value changes
// nothing.
type Variant struct {
	// Components are names of directories under k8s/components, applied in this
	// order.
	Components []string `yaml:"components"`
	// Patches come after the components, in this order.
	Patches []Patch `yaml:"patches"`
}

// Patch is a change of some objects of the mesh.
type Patch struct {
	// Target says which objects are meant. Where it is empty a strategic merge
	// says so itself, by its kind and metadata.name.
	Target Selector `yaml:"target"`
	// Patch is the text of a strategic merge or of a JSON 6902 patch, in YAML.
	Patch string `yaml:"patch"`
}

// Selector names objects by kind and name. The name is a regular expression for
// the whole name, such as "gateway|order"; an empty field means any.
type Selector struct {
	Kind string `yaml:"kind"`
	Name string `yaml:"name"`
}

func (v Variant) empty() bool { return len(v.Components) == 0 && len(v.Patches) == 0 }

// LoadVariant renders an overlay below root with a variant's components and
// patches on it and decodes the objects, as Load does. It writes a kustomization
// that names overlay, components and patches to the directory scratch, which it
// makes: what is run can be looked at with `kubectl kustomize`. scratch must not
// be below the overlay. A component that is not there and a patch that meets no
// object are errors.
func LoadVariant(root, overlay string, v Variant, scratch string) (*Mesh, error) {
	if v.empty() {
		return Load(root, overlay)
	}
	text, err := RenderVariant(root, overlay, v, scratch)
	if err != nil {
		return nil, err
	}
	return Decode(text, root, scratch)
}

// RenderVariant is the first half of LoadVariant: it returns the objects as one
// YAML stream, of whatever kinds they are.
func RenderVariant(root, overlay string, v Variant, scratch string) ([]byte, error) {
	if v.empty() {
		return Render(filepath.Join(root, overlay))
	}
	if err := v.check(root); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, fmt.Errorf("make room for the variant's kustomization: %w", err)
	}
	if err := v.write(root, overlay, scratch, true); err != nil {
		return nil, err
	}
	text, err := Render(scratch)
	if err != nil {
		// Of a patch that does not fit, kustomize tells only the object.
		return nil, fmt.Errorf("apply the variant to k8s/%s: %w", overlay, err)
	}
	if err := v.meets(root, overlay, scratch, text); err != nil {
		return nil, err
	}
	return text, nil
}

func (v Variant) check(root string) error {
	var errs []error
	for _, name := range v.Components {
		path := filepath.Join(root, componentsDir, name, "kustomization.yaml")
		if info, err := os.Stat(path); err == nil && !info.IsDir() && name == filepath.Base(name) {
			continue
		}
		errs = append(errs, fmt.Errorf("there is no component %q under k8s/%s; there are: %s", name, componentsDir, strings.Join(components(root), ", ")))
	}
	for i, p := range v.Patches {
		if strings.TrimSpace(p.Patch) == "" {
			errs = append(errs, fmt.Errorf("patch %d of the variant is empty; give a strategic merge or a JSON 6902 patch", i+1))
		}
		if _, err := regexp.Compile(p.Target.Name); err != nil {
			errs = append(errs, fmt.Errorf("patch %d of the variant: target.name: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

// components lists what is under k8s/components.
func components(root string) []string {
	entries, err := os.ReadDir(filepath.Join(root, componentsDir))
	if err != nil {
		return []string{"none"}
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// write writes the kustomization to scratch, with or without the patches.
func (v Variant) write(root, overlay, scratch string, patched bool) error {
	// Kustomize wants relative paths, and follows links before it counts dots.
	from, err := filepath.EvalSymlinks(scratch)
	if err != nil {
		return fmt.Errorf("write the variant's kustomization: %w", err)
	}
	if from, err = filepath.Abs(from); err != nil {
		return fmt.Errorf("write the variant's kustomization: %w", err)
	}
	relative := func(names ...string) (string, error) {
		path, err := filepath.Abs(filepath.Join(append([]string{root}, names...)...))
		if err != nil {
			return "", err
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", err
		}
		return filepath.Rel(from, path)
	}
	k := types.Kustomization{TypeMeta: types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind}}
	path, err := relative(overlay)
	if err != nil {
		return fmt.Errorf("find the overlay k8s/%s: %w", overlay, err)
	}
	k.Resources = []string{path}
	for _, name := range v.Components {
		path, err := relative(componentsDir, name)
		if err != nil {
			return fmt.Errorf("find the component %s: %w", name, err)
		}
		k.Components = append(k.Components, path)
	}
	for i, p := range v.Patches {
		if !patched {
			break
		}
		// Files of their own: that is where a mistake is looked for.
		name := fmt.Sprintf("patch-%d.yaml", i+1)
		if err := os.WriteFile(filepath.Join(scratch, name), []byte(p.Patch), 0o600); err != nil {
			return fmt.Errorf("write patch %d of the variant: %w", i+1, err)
		}
		entry := types.Patch{Path: name}
		if p.Target != (Selector{}) {
			entry.Target = &types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: p.Target.Kind}, Name: p.Target.Name}}
		}
		k.Patches = append(k.Patches, entry)
	}
	text, err := yaml.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode the variant's kustomization: %w", err)
	}
	if err := os.WriteFile(filepath.Join(scratch, "kustomization.yaml"), text, 0o600); err != nil {
		return fmt.Errorf("write the variant's kustomization: %w", err)
	}
	return nil
}

// meets checks that every patch with a target has met an object: kustomize passes
// over one that has not.
func (v Variant) meets(root, overlay, scratch string, rendered []byte) error {
	missed := v.missed(rendered)
	if len(missed) == 0 {
		return nil
	}
	// A patch may have removed what another one names: only before all of them
	// can it be told.
	if err := v.write(root, overlay, scratch, false); err != nil {
		return err
	}
	before, err := Render(scratch)
	if err != nil {
		return err
	}
	if err := v.write(root, overlay, scratch, true); err != nil {
		return err
	}
	var errs []error
	for _, i := range v.missed(before) {
		target := v.Patches[i].Target
		errs = append(errs, fmt.Errorf("patch %d of the variant meets nothing: no object has kind %q and name %q", i+1, target.Kind, target.Name))
	}
	return errors.Join(errs...)
}

// missed lists the patches, by index, whose target is none of the objects.
func (v Variant) missed(objects []byte) []int {
	var heads []Selector
	for doc := range strings.SplitSeq(string(objects), "\n---\n") {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if yaml.Unmarshal([]byte(doc), &head) == nil {
			heads = append(heads, Selector{head.Kind, head.Metadata.Name})
		}
	}
	var missed []int
	for i, p := range v.Patches {
		t := p.Target
		if t == (Selector{}) {
			continue
		}
		whole := func(pattern, text string) bool {
			ok, err := regexp.MatchString("^(?:"+pattern+")$", text)
			return pattern == "" || err == nil && ok
		}
		if !slices.ContainsFunc(heads, func(h Selector) bool { return whole(t.Kind, h.Kind) && whole(t.Name, h.Name) }) {
			missed = append(missed, i)
		}
	}
	return missed
}

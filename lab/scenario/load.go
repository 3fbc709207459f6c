package scenario

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"

	"spillway.dev/lab/nodepool"
	"spillway.dev/lab/scenario/strict"
)

// Load reads and checks a scenario file. Mistakes in it come as strict.Errors,
// each with file, line and column: all that are against the schema at once, and
// when there are none, all that make no sense.
func Load(path string) (*Scenario, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	return Parse(path, text)
}

// Parse reads and checks the text of a scenario file; path is what errors call
// it and where the names of other files start from.
func Parse(path string, text []byte) (*Scenario, error) {
	doc, err := strict.Parse(path, text)
	if err != nil {
		return nil, err
	}
	var f file
	doc.Decode(doc.Root(), "", &f)
	s := &Scenario{
		Name: f.Scenario, Question: f.Question, Document: f.Document, Duration: f.Duration, Warmup: f.Warmup, StartUp: f.StartUp,
		Timelapse: f.Timelapse, Visits: f.Visits, Expect: f.Expect, Cost: f.Cost, Path: path,
		timelapseAt: doc.At("timelapse"),
	}
	for i := range f.Variants {
		s.Variants = append(s.Variants, variant(doc, &f, i))
	}
	// A mistaken key leaves its value out. Checks would call it missing too.
	if err := doc.Err(); err != nil {
		return nil, err
	}
	c := check{doc: doc, file: &f, scenario: s}
	c.whole()
	c.variants()
	c.faults()
	c.scale()
	c.outcome()
	if err := doc.Err(); err != nil {
		return nil, err
	}
	c.mentions()
	// Sorted last: places in the file go by its own order.
	s.Faults, s.Scale = slices.Clone(f.Faults), slices.Clone(f.Scale)
	slices.SortStableFunc(s.Faults, func(a, b TimedFault) int { return cmp.Compare(a.At, b.At) })
	slices.SortStableFunc(s.Scale, func(a, b Scaling) int { return cmp.Compare(a.At, b.At) })
	return s, nil
}

// variant is the i-th variant with what it takes from the scenario. Its load and
// its nodes are decoded under the variant's path, wherever their keys stand.
func variant(doc *strict.Document, f *file, i int) Variant {
	own := f.Variants[i]
	v := Variant{
		Name: own.Name, Says: own.Says,
		Components: slices.Concat(f.Components, own.Components),
		Patches:    slices.Concat(f.Patches, own.Patches),
		Knobs:      make(map[string]map[string]string),
	}
	for _, knobs := range []map[string]map[string]string{f.Knobs, own.Knobs} {
		for service, values := range knobs {
			if v.Knobs[service] == nil {
				v.Knobs[service] = make(map[string]string)
			}
			maps.Copy(v.Knobs[service], values)
		}
	}
	if plan := over(f.Load, own.Load); plan.Kind != 0 {
		doc.Decode(&plan, fmt.Sprintf("variants[%d].load", i), &v.Load)
	}
	if nodes := over(f.Nodes, own.Nodes); nodes.Kind != 0 {
		v.Nodes = new(nodepool.Config)
		doc.Decode(&nodes, fmt.Sprintf("variants[%d].nodes", i), v.Nodes)
	}
	return v
}

// over is a mapping with another one's keys in place of its own. A node that is
// no mapping stays itself, to be refused when it is decoded.
func over(base, own yaml.Node) yaml.Node {
	switch {
	case own.Kind == 0:
		return base
	case base.Kind != yaml.MappingNode || own.Kind != yaml.MappingNode:
		return own
	}
	merged := own
	merged.Content = nil
	given := make(map[string]bool)
	for i := 0; i+1 < len(own.Content); i += 2 {
		given[own.Content[i].Value] = true
	}
	for i := 0; i+1 < len(base.Content); i += 2 {
		if !given[base.Content[i].Value] {
			merged.Content = append(merged.Content, base.Content[i], base.Content[i+1])
		}
	}
	merged.Content = append(merged.Content, own.Content...)
	return merged
}

package metricsrules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// Config is prometheus-adapter's configuration, field by field as in its
// pkg/config/config.go. The meaning of every field is in its docs/config.md.
type Config struct {
	// Rules give metrics of Kubernetes objects (HPA types Pods and Object).
	Rules []Rule `yaml:"rules"`
	// ResourceRules give CPU and memory of pods (Resource, ContainerResource).
	ResourceRules *ResourceRules `yaml:"resourceRules"`
	// ExternalRules give metrics of nothing in the cluster (External).
	ExternalRules []Rule `yaml:"externalRules"`
}

// Rule says which series are metrics, of what, by which name and query.
type Rule struct {
	// SeriesQuery is a series selector: what the rule is about.
	SeriesQuery string `yaml:"seriesQuery"`
	// SeriesFilters are regular expressions that a series' name must satisfy.
	SeriesFilters []Filter  `yaml:"seriesFilters"`
	Resources     Resources `yaml:"resources"`
	Name          Name      `yaml:"name"`
	// MetricsQuery is a template in << and >> over Series, LabelMatchers,
	// LabelValuesByName, GroupBy and GroupBySlice.
	MetricsQuery string `yaml:"metricsQuery"`
}

// Filter is one regular expression: exactly one of the two is set.
type Filter struct {
	Is    string `yaml:"is"`
	IsNot string `yaml:"isNot"`
}

// Resources maps labels to kinds of Kubernetes objects.
type Resources struct {
	// Template gives the label of a resource: << and >> over Group and Resource.
	Template string `yaml:"template"`
	// Overrides give the resource of a label, and go before the template.
	Overrides map[string]GroupResource `yaml:"overrides"`
	// Namespaced false takes the namespace out of an external metric's query.
	Namespaced *bool `yaml:"namespaced"`
}

// GroupResource names a kind of object; Resource may be singular or plural.
type GroupResource struct {
	Group    string `yaml:"group"`
	Resource string `yaml:"resource"`
}

// Name makes a metric's name of a series' name.
type Name struct {
	// Matches is a regular expression; empty means anything.
	Matches string `yaml:"matches"`
	// As is the name, with $1 for what the first group matched. Empty means the
	// only group, or the whole name where there is no group.
	As string `yaml:"as"`
}

// ResourceRules give CPU and memory. As upstream, a pod has metrics only where
// both answer for it.
type ResourceRules struct {
	CPU    ResourceRule `yaml:"cpu"`
	Memory ResourceRule `yaml:"memory"`
	// Window is the time that a value is an average over. A pod's CPU counts only
	// when it has been ready for that long.
	Window model.Duration `yaml:"window"`
}

// ResourceRule asks for one resource.
type ResourceRule struct {
	// ContainerQuery is a template as Rule.MetricsQuery, without Series.
	ContainerQuery string `yaml:"containerQuery"`
	// NodeQuery is for `kubectl top nodes`, which a local mesh has no use for:
	// it is read, and asked for in a cluster only.
	NodeQuery string    `yaml:"nodeQuery"`
	Resources Resources `yaml:"resources"`
	// ContainerLabel is the label that names the container.
	ContainerLabel string `yaml:"containerLabel"`
}

// Parse reads a configuration. A key that the format does not have is an error
// with its line.
func Parse(text []byte) (*Config, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var c Config
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document: give one")
	}
	if c.ResourceRules != nil && time.Duration(c.ResourceRules.Window) <= 0 {
		return nil, fmt.Errorf("resourceRules.window is missing: give the range that containerQuery averages over")
	}
	return &c, nil
}

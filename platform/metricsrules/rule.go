package metricsrules

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
)

var namespaces = schema.GroupResource{Resource: "namespaces"}

// rule is a compiled Rule.
type rule struct {
	converter
	seriesQuery string
	filters     []filter
	matches     *regexp.Regexp
	as          string
	namespaced  bool
	template    *template.Template
}

type filter struct {
	*regexp.Regexp
	want bool
}

func compile(r Rule, mapper meta.RESTMapper, dialect Dialect) (*rule, error) {
	if r.SeriesQuery == "" {
		return nil, errors.New("seriesQuery: is missing: give a series selector")
	}
	if err := dialect.CheckSelector(r.SeriesQuery); err != nil {
		return nil, fmt.Errorf("seriesQuery: %w", err)
	}
	c := &rule{seriesQuery: r.SeriesQuery, namespaced: r.Resources.Namespaced == nil || *r.Resources.Namespaced}
	var err error
	if c.converter, err = newConverter(r.Resources, mapper); err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	if c.template, err = parseTemplate(r.MetricsQuery); err != nil {
		return nil, fmt.Errorf("metricsQuery: %w", err)
	}
	for i, f := range r.SeriesFilters {
		if (f.Is == "") == (f.IsNot == "") {
			return nil, fmt.Errorf("seriesFilters[%d]: give one of is and isNot", i)
		}
		re, err := regexp.Compile(f.Is + f.IsNot)
		if err != nil {
			return nil, fmt.Errorf("seriesFilters[%d]: %w", i, err)
		}
		c.filters = append(c.filters, filter{Regexp: re, want: f.Is != ""})
	}
	if c.matches, err = regexp.Compile(r.Name.Matches); err != nil {
		return nil, fmt.Errorf("name.matches: %w", err)
	}
	if r.Name.Matches == "" {
		c.matches = regexp.MustCompile(".*")
	}
	c.as = r.Name.As
	if c.as == "" {
		switch c.matches.NumSubexp() {
		case 0:
			c.as = "$0"
		case 1:
			c.as = "$1"
		default:
			return nil, fmt.Errorf("name.as is missing: name.matches %q has more than one group", r.Name.Matches)
		}
	}
	return c, nil
}

// metric is the name under which the rule gives a series, if it does.
func (r *rule) metric(series string) (string, bool) {
	for _, f := range r.filters {
		if f.MatchString(series) != f.want {
			return "", false
		}
	}
	at := r.matches.FindStringSubmatchIndex(series)
	if at == nil {
		return "", false
	}
	return string(r.matches.ExpandString(nil, r.as, series, at)), true
}

// mayGive spares a look for series of a rule whose name is fixed.
func (r *rule) mayGive(metric string) bool {
	return strings.Contains(r.as, "$") || r.as == metric
}

// objectQuery asks for objects of a namespace by name.
func (r *rule) objectQuery(series string, of schema.GroupResource, namespace string, names []string, selector labels.Selector) (string, error) {
	matchers, err := selectorMatchers(selector)
	if err != nil {
		return "", err
	}
	if namespace != "" {
		label, err := r.label(namespaces)
		if err != nil {
			return "", err
		}
		matchers = append(matchers, matcher{label, "=", []string{namespace}})
	}
	label, err := r.label(of)
	if err != nil {
		return "", err
	}
	return execute(r.template, series, append(matchers, namesMatcher(label, names)), []string{label})
}

// externalQuery asks for everything that a selector matches.
func (r *rule) externalQuery(series, namespace string, selector labels.Selector) (string, error) {
	matchers, err := selectorMatchers(selector)
	if err != nil {
		return "", err
	}
	if r.namespaced && namespace != "" {
		label, err := r.label(namespaces)
		if err != nil {
			return "", err
		}
		matchers = append(matchers, matcher{label, "=", []string{namespace}})
	}
	return execute(r.template, series, matchers, nil)
}

// resourceRules is compiled ResourceRules.
type resourceRules struct {
	cpu, memory *resourceRule
	window      time.Duration
}

type resourceRule struct {
	podLabel, namespaceLabel, containerLabel string
	template                                 *template.Template
}

func compileResources(c *ResourceRules, mapper meta.RESTMapper) (*resourceRules, error) {
	cpu, err := compileResource(c.CPU, mapper)
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	memory, err := compileResource(c.Memory, mapper)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	return &resourceRules{cpu: cpu, memory: memory, window: time.Duration(c.Window)}, nil
}

func compileResource(c ResourceRule, mapper meta.RESTMapper) (*resourceRule, error) {
	if c.ContainerLabel == "" {
		return nil, errors.New("containerLabel is missing: give the label that names the container")
	}
	conv, err := newConverter(c.Resources, mapper)
	if err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	r := &resourceRule{containerLabel: c.ContainerLabel}
	if r.podLabel, err = conv.label(schema.GroupResource{Resource: "pods"}); err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	if r.namespaceLabel, err = conv.label(namespaces); err != nil {
		return nil, fmt.Errorf("resources: %w", err)
	}
	if r.template, err = parseTemplate(c.ContainerQuery); err != nil {
		return nil, fmt.Errorf("containerQuery: %w", err)
	}
	return r, nil
}

func (r *resourceRule) query(namespace string, pods []string) (string, error) {
	return execute(r.template, "", []matcher{
		{r.namespaceLabel, "=", []string{namespace}},
		namesMatcher(r.podLabel, pods),
	}, []string{r.podLabel, r.containerLabel})
}

// converter knows the label of a resource.
type converter struct {
	mapper    meta.RESTMapper
	overrides map[schema.GroupResource]string
	template  *template.Template
}

func newConverter(c Resources, mapper meta.RESTMapper) (converter, error) {
	conv := converter{mapper: mapper, overrides: map[schema.GroupResource]string{}}
	if c.Template != "" {
		t, err := parseTemplate(c.Template)
		if err != nil {
			return conv, fmt.Errorf("template: %w", err)
		}
		conv.template = t
	}
	// In order, so that the same of two labels for one resource always wins.
	for _, label := range slices.Sorted(maps.Keys(c.Overrides)) {
		of := c.Overrides[label]
		full, err := mapper.ResourceFor(schema.GroupVersionResource{Group: of.Group, Resource: of.Resource})
		if err != nil {
			return conv, fmt.Errorf("overrides.%s: %w: a mesh has pods, services, namespaces, nodes and deployments.apps", label, err)
		}
		conv.overrides[full.GroupResource()] = label
	}
	return conv, nil
}

func (c converter) label(of schema.GroupResource) (string, error) {
	if label, ok := c.overrides[of]; ok {
		return label, nil
	}
	if c.template == nil {
		return "", fmt.Errorf("no label for %s: add it to overrides, or give a template", of)
	}
	singular, err := c.mapper.ResourceSingularizer(of.Resource)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = c.template.Execute(&out, schema.GroupResource{
		Group:    strings.NewReplacer(".", "_", "-", "_").Replace(of.Group),
		Resource: singular,
	})
	return out.String(), err
}

// matcher is a label matcher of PromQL.
type matcher struct {
	label, op string
	values    []string
}

func (m matcher) String() string {
	return fmt.Sprintf("%s%s%q", m.label, m.op, strings.Join(m.values, "|"))
}

// namesMatcher matches objects by name. Names of Kubernetes objects have no
// character that means something in a regular expression but the dot.
func namesMatcher(label string, names []string) matcher {
	if len(names) == 1 {
		return matcher{label, "=", names}
	}
	return matcher{label, "=~", names}
}

// selectorMatchers says a label selector in PromQL.
func selectorMatchers(selector labels.Selector) ([]matcher, error) {
	requirements, _ := selector.Requirements()
	var list []matcher
	for _, r := range requirements {
		m := matcher{label: r.Key(), values: r.Values().List()}
		several := len(m.values) > 1
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			m.op = "="
			if several || r.Operator() == selection.In {
				m.op = "=~"
			}
		case selection.NotEquals, selection.NotIn:
			m.op = "!="
			if several || r.Operator() == selection.NotIn {
				m.op = "!~"
			}
		case selection.Exists:
			m.op, m.values = "!=", nil
		case selection.DoesNotExist:
			m.op, m.values = "=", nil
		default:
			return nil, fmt.Errorf("selector %s: PromQL has no %q: use =, !=, in, notin or exists", selector, r.Operator())
		}
		list = append(list, m)
	}
	return list, nil
}

func parseTemplate(text string) (*template.Template, error) {
	if text == "" {
		return nil, errors.New("is missing")
	}
	return template.New("").Delims("<<", ">>").Option("missingkey=error").Parse(text)
}

// execute fills a query's template.
func execute(t *template.Template, series string, matchers []matcher, groupBy []string) (string, error) {
	values := map[string]string{}
	said := make([]string, len(matchers))
	for i, m := range matchers {
		said[i] = m.String()
		values[m.label] = strings.Join(m.values, "|")
	}
	var out bytes.Buffer
	err := t.Execute(&out, struct {
		Series            string
		LabelMatchers     string
		LabelValuesByName map[string]string
		GroupBy           string
		GroupBySlice      []string
	}{series, strings.Join(said, ","), values, strings.Join(groupBy, ","), groupBy})
	if err != nil {
		return "", err
	}
	if out.Len() == 0 {
		return "", errors.New("the template gave an empty query")
	}
	return out.String(), nil
}

// union is the keys of both, in order.
func union(a, b map[string]float64) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

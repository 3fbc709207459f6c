package observability

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

const (
	root          = "../.."
	dashboardsDir = root + "/k8s/observability/grafana/dashboards"
	rulesDir      = root + "/k8s/observability/prometheus/rules"
)

// dashboard is what these tests read of Grafana's JSON.
type dashboard struct {
	UID         string `json:"uid"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Editable    bool   `json:"editable"`
	Templating  struct {
		List []struct {
			Name       string `json:"name"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Expr string `json:"expr"`
		} `json:"list"`
	} `json:"annotations"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []target `json:"targets"`
	Options struct {
		Content string `json:"content"`
	} `json:"options"`
}

// shows tells what a panel shows: queries, or words.
func (p panel) shows() bool {
	if p.Type == "text" {
		return p.Options.Content != "" && len(p.Targets) == 0
	}
	return len(p.Targets) > 0
}

type target struct {
	RefID      string     `json:"refId"`
	Datasource datasource `json:"datasource"`
	Expr       string     `json:"expr"`
	Legend     string     `json:"legendFormat"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	paths, err := filepath.Glob(dashboardsDir + "/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d dashboards in %s, %v", len(paths), dashboardsDir, err)
	}
	all := map[string]dashboard{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[filepath.Base(path)] = d
	}
	return all
}

// filled is an expression with Grafana's variables replaced, as the browser does
// before Prometheus sees it.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$__range_s", "3600", "$__range", "1h", "$service", "order").Replace(expr)
}

// known is every metric that there is: what rules record, and what a real mesh
// was scraped for, each with its labels.
func known(t *testing.T) map[string][]string {
	t.Helper()
	file, err := os.Open("testdata/series.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	all := map[string][]string{}
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if fields := strings.Fields(scanner.Text()); len(fields) > 0 && fields[0] != "#" {
			all[fields[0]] = fields[1:]
		}
	}
	for _, rule := range recorded(t) {
		has := slices.Concat(outputs(t, parse(t, rule.Expr), all), slices.Collect(maps.Keys(rule.Labels)))
		all[rule.Record] = slices.Compact(slices.Sorted(slices.Values(append(has, all[rule.Record]...))))
	}
	return all
}

type rule struct {
	Record string            `yaml:"record"`
	Alert  string            `yaml:"alert"`
	Expr   string            `yaml:"expr"`
	Labels map[string]string `yaml:"labels"`
}

// recorded is every recording rule in the order in which they are evaluated.
func recorded(t *testing.T) (found []rule) {
	t.Helper()
	for _, name := range []string{"mesh.yaml", "coordination.yaml", "slo.yaml"} {
		text, err := os.ReadFile(filepath.Join(rulesDir, name))
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Groups []struct {
				Rules []rule `yaml:"rules"`
			} `yaml:"groups"`
		}
		if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, group := range file.Groups {
			for _, r := range group.Rules {
				if r.Record != "" {
					found = append(found, r)
				}
			}
		}
	}
	return found
}

func parse(t *testing.T, expr string) parser.Expr {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return parsed
}

// selectors is every series selector in an expression.
func selectors(expr parser.Expr) (found []*parser.VectorSelector) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			found = append(found, s)
		}
		return nil
	})
	return found
}

// wrong says what of an expression's selectors does not exist.
func wrong(expr parser.Expr, all map[string][]string) (problems []string) {
	for _, s := range selectors(expr) {
		has, ok := all[s.Name]
		if !ok {
			problems = append(problems, "no metric "+s.Name)
			continue
		}
		for _, m := range s.LabelMatchers {
			if m.Name != model.MetricNameLabel && !slices.Contains(has, m.Name) {
				problems = append(problems, s.Name+" has no label "+m.Name)
			}
		}
	}
	return problems
}

// outputs is the labels that the result of an expression has. It knows the forms
// that our rules and dashboards use, and fails on others.
func outputs(t *testing.T, expr parser.Expr, all map[string][]string) []string {
	t.Helper()
	switch e := expr.(type) {
	case *parser.VectorSelector:
		return all[e.Name]
	case *parser.MatrixSelector:
		return outputs(t, e.VectorSelector, all)
	case *parser.SubqueryExpr:
		return outputs(t, e.Expr, all)
	case *parser.ParenExpr:
		return outputs(t, e.Expr, all)
	case *parser.StepInvariantExpr:
		return outputs(t, e.Expr, all)
	case *parser.UnaryExpr:
		return outputs(t, e.Expr, all)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil
	case *parser.AggregateExpr:
		in := outputs(t, e.Expr, all)
		if e.Without {
			return slices.DeleteFunc(slices.Clone(in), func(l string) bool { return slices.Contains(e.Grouping, l) })
		}
		return slices.DeleteFunc(slices.Clone(e.Grouping), func(l string) bool { return !slices.Contains(in, l) })
	case *parser.BinaryExpr:
		left, right := outputs(t, e.LHS, all), outputs(t, e.RHS, all)
		switch {
		case e.VectorMatching == nil && e.LHS.Type() != parser.ValueTypeVector:
			return right
		case e.Op == parser.LOR:
			return slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(left), right...))))
		case e.VectorMatching != nil && e.VectorMatching.On && e.VectorMatching.Card == parser.CardOneToOne:
			return slices.DeleteFunc(slices.Clone(left), func(l string) bool { return !slices.Contains(e.VectorMatching.MatchingLabels, l) })
		}
		return left
	case *parser.Call:
		switch e.Func.Name {
		case "label_replace", "label_join":
			to := e.Args[1].(*parser.StringLiteral).Val
			return append(slices.Clone(outputs(t, e.Args[0], all)), to)
		case "vector":
			return nil
		case "histogram_quantile":
			return slices.DeleteFunc(slices.Clone(outputs(t, e.Args[1], all)), func(l string) bool { return l == "le" })
		}
		return outputs(t, e.Args[0], all)
	}
	t.Fatalf("labels of a %T are not known: %s", expr, expr)
	return nil
}

var ofLegend = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

func TestEveryQueryIsOfWhatThereIs(t *testing.T) {
	all := known(t)
	all["ALERTS"] = []string{"alertname", "alertstate", "severity", "service"}
	for name, d := range dashboards(t) {
		for _, a := range d.Annotations.List {
			for _, problem := range wrong(parse(t, a.Expr), all) {
				t.Errorf("%s: annotation: %s", name, problem)
			}
		}
		for _, v := range d.Templating.List {
			inner := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Definition)
			if inner == nil || !slices.Contains(all[inner[1]], inner[2]) {
				t.Errorf("%s: variable %s: there are no values of %q", name, v.Name, v.Definition)
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				if q.Datasource.Type != "prometheus" {
					continue
				}
				expr := parse(t, filled(q.Expr))
				if strings.Contains(filled(q.Expr), "$") {
					// label_replace's own groups are all that may be left.
					if rest := strings.ReplaceAll(filled(q.Expr), `"$1"`, ""); strings.Contains(rest, "$") {
						t.Errorf("%s: %s %s: a variable that these tests do not know: %s", name, p.Title, q.RefID, q.Expr)
					}
				}
				for _, problem := range wrong(expr, all) {
					t.Errorf("%s: %s %s: %s", name, p.Title, q.RefID, problem)
				}
				has := outputs(t, expr, all)
				for _, label := range ofLegend.FindAllStringSubmatch(q.Legend, -1) {
					if !slices.Contains(has, label[1]) {
						t.Errorf("%s: %s %s: the legend shows %s, and the result has only %q", name, p.Title, q.RefID, label[1], has)
					}
				}
			}
		}
	}
}

// Alerts too are only of what there is.
func TestEveryAlertIsOfWhatThereIs(t *testing.T) {
	all := known(t)
	all["spillway_mesh_nacks_total"] = []string{"caller", "type", "namespace", "pod", "service", "node"}
	seen := 0
	for _, name := range []string{"mesh.yaml", "coordination.yaml", "alerts.yaml", "slo.yaml"} {
		text, err := os.ReadFile(filepath.Join(rulesDir, name))
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Groups []struct{ Rules []rule }
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		for _, group := range file.Groups {
			for _, r := range group.Rules {
				seen++
				for _, problem := range wrong(parse(t, r.Expr), all) {
					t.Errorf("%s: %s%s: %s", name, r.Record, r.Alert, problem)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no rules")
	}
}

func TestDashboardsAreWhole(t *testing.T) {
	uids := map[string]bool{}
	list := filesOf(t, "grafana-dashboards")
	all := dashboards(t)
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, slices.Sorted(slices.Values(list))) {
		t.Errorf("the ConfigMap has %q, the directory %q", list, got)
	}
	for name, d := range all {
		if d.UID == "" || uids[d.UID] || d.Title == "" || d.Description == "" || d.Editable {
			t.Errorf("%s: uid %q (own: %v), title %q, description %q, editable %v", name, d.UID, !uids[d.UID], d.Title, d.Description, d.Editable)
		}
		uids[d.UID] = true
		ids := map[int]bool{}
		for i, p := range d.Panels {
			if ids[p.ID] || p.Title == "" || p.Description == "" || !p.shows() {
				t.Errorf("%s: panel %d %q: id not its own, or no title, description, query or text", name, p.ID, p.Title)
			}
			ids[p.ID] = true
			if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s: %s does not fit on the grid: %+v", name, p.Title, g)
			}
			for _, other := range d.Panels[:i] {
				a, b := p.GridPos, other.GridPos
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s: %s lies on %s", name, p.Title, other.Title)
				}
			}
		}
	}
}

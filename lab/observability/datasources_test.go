package observability

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const observabilityDir = root + "/k8s/observability"

// filesOf is the names of the files that Grafana's kustomization puts into a
// ConfigMap.
func filesOf(t *testing.T, configMap string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(observabilityDir + "/grafana/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		Generators []struct {
			Name  string   `yaml:"name"`
			Files []string `yaml:"files"`
		} `yaml:"configMapGenerator"`
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	for _, g := range k.Generators {
		if g.Name == configMap {
			for _, file := range g.Files {
				names = append(names, filepath.Base(file))
			}
		}
	}
	return names
}

// provisioned is Grafana's data sources by uid.
func provisioned(t *testing.T) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for _, name := range filesOf(t, "grafana-datasources") {
		text, err := os.ReadFile(observabilityDir + "/grafana/datasources/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			APIVersion  int              `yaml:"apiVersion"`
			Datasources []map[string]any `yaml:"datasources"`
		}
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		decoder.KnownFields(true)
		if err := decoder.Decode(&file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, d := range file.Datasources {
			uid, _ := d["uid"].(string)
			if uid == "" || found[uid] != nil {
				t.Errorf("%s: uid %q is missing or taken", name, uid)
			}
			found[uid] = d
		}
	}
	return found
}

// uids is every value of a key that ends in datasourceUid, wherever it is.
func uids(value any, visit func(uid string)) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			if uid, ok := inner.(string); ok && strings.HasSuffix(strings.ToLower(key), "uid") && key != "uid" {
				visit(uid)
			}
			uids(inner, visit)
		}
	case []any:
		for _, inner := range v {
			uids(inner, visit)
		}
	}
}

// Exemplar to trace, trace to log and metric, log to trace: each way leads to a
// data source that is there.
func TestDataSourcesLeadToEachOther(t *testing.T) {
	all := provisioned(t)
	leads := map[string]bool{}
	for from, d := range all {
		uids(d["jsonData"], func(to string) {
			if all[to] == nil {
				t.Errorf("%s leads to %s, which is no data source", from, to)
			}
			leads[from+" → "+to] = true
		})
		// The Service behind it is in a kustomization of its own.
		address, _ := d["url"].(string)
		parts := regexp.MustCompile(`^http://([a-z-]+):(\d+)$`).FindStringSubmatch(address)
		if parts == nil {
			t.Errorf("%s is at %q", from, address)
			continue
		}
		service, err := os.ReadFile(filepath.Join(observabilityDir, parts[1], "service.yaml"))
		if err != nil || !strings.Contains(string(service), "port: "+parts[2]+"\n") {
			t.Errorf("%s is at %s, and no Service offers that (%v)", from, address, err)
		}
	}
	for _, way := range []string{"prometheus → jaeger", "jaeger → loki", "jaeger → prometheus", "loki → jaeger", "prometheus → alertmanager"} {
		if !leads[way] {
			t.Errorf("nothing leads %s", way)
		}
	}
	for name, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				if source := all[q.Datasource.UID]; source == nil || source["type"] != q.Datasource.Type {
					t.Errorf("%s: %s asks %+v, which is no data source", name, p.Title, q.Datasource)
				}
			}
		}
	}
}

// Loki knows only the labels that it is told to make of resource attributes.
func TestLogQueriesSelectByLabelsThatLokiHas(t *testing.T) {
	text, err := os.ReadFile(observabilityDir + "/loki/loki.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cfg struct {
		Limits struct {
			OTLP struct {
				Resource struct {
					Attributes []struct {
						Action     string   `yaml:"action"`
						Attributes []string `yaml:"attributes"`
					} `yaml:"attributes_config"`
				} `yaml:"resource_attributes"`
			} `yaml:"otlp_config"`
		} `yaml:"limits_config"`
	}
	if err := yaml.Unmarshal(text, &cfg); err != nil {
		t.Fatal(err)
	}
	var indexed []string
	for _, a := range cfg.Limits.OTLP.Resource.Attributes {
		if a.Action == "index_label" {
			for _, name := range a.Attributes {
				indexed = append(indexed, strings.ReplaceAll(name, ".", "_"))
			}
		}
	}
	var queries []string
	uidless, _ := provisioned(t)["jaeger"]["jsonData"].(map[string]any)
	if logs, ok := uidless["tracesToLogsV2"].(map[string]any); ok {
		query, _ := logs["query"].(string)
		queries = append(queries, query)
	}
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				if q.Datasource.Type == "loki" {
					queries = append(queries, q.Expr)
				}
			}
		}
	}
	if len(queries) < 2 {
		t.Fatalf("only %q ask for logs", queries)
	}
	selector := regexp.MustCompile(`^\{([^}]+)\}`)
	for _, query := range queries {
		in := selector.FindStringSubmatch(query)
		if in == nil {
			t.Errorf("%q has no stream selector", query)
			continue
		}
		for matcher := range strings.SplitSeq(in[1], ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(matcher), "=")
			if !slices.Contains(indexed, name) {
				t.Errorf("%q selects by %s; Loki indexes %q", query, name, indexed)
			}
		}
	}
}

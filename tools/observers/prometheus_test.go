package observers

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/config"
	_ "github.com/prometheus/prometheus/discovery/kubernetes" // makes kubernetes_sd_configs known
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"sigs.k8s.io/yaml"
)

func prometheusConfig(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.LoadFile(observability+"/prometheus/prometheus.yaml", false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func job(t *testing.T, cfg *config.Config, name string) *config.ScrapeConfig {
	t.Helper()
	for _, s := range cfg.ScrapeConfigs {
		if s.JobName == name {
			return s
		}
	}
	t.Fatalf("no job %s", name)
	return nil
}

func TestPodsGetTheLabelsOfALocalRun(t *testing.T) {
	cfg := prometheusConfig(t)
	rules := job(t, cfg, "mesh").RelabelConfigs
	pod := func(change ...string) labels.Labels {
		b := labels.NewBuilder(labels.FromStrings(
			"__address__", "10.1.2.3:9090",
			"__meta_kubernetes_namespace", "spillway",
			"__meta_kubernetes_pod_name", "order-7c9-abc",
			"__meta_kubernetes_pod_node_name", "node-1",
			"__meta_kubernetes_pod_phase", "Running",
			"__meta_kubernetes_pod_container_port_name", "admin",
			"__meta_kubernetes_pod_label_app_kubernetes_io_name", "order",
		))
		for i := 0; i < len(change); i += 2 {
			b.Set(change[i], change[i+1])
		}
		return b.Labels()
	}
	kept := func(in labels.Labels) (labels.Labels, bool) {
		b := labels.NewBuilder(in)
		keep := relabel.ProcessBuilder(b, rules...)
		b.Range(func(l labels.Label) {
			if strings.HasPrefix(l.Name, "__meta_") {
				b.Del(l.Name)
			}
		})
		return b.Labels(), keep
	}
	got, keep := kept(pod())
	want := labels.FromStrings("__address__", "10.1.2.3:9090", "namespace", "spillway", "node", "node-1", "pod", "order-7c9-abc", "service", "order")
	if !keep || !labels.Equal(got, want) {
		t.Errorf("got %v (kept: %v), want %v", got, keep, want)
	}
	for what, in := range map[string]labels.Labels{
		"the port of gRPC":     pod("__meta_kubernetes_pod_container_port_name", "grpc"),
		"a pod that has ended": pod("__meta_kubernetes_pod_phase", "Succeeded"),
	} {
		if _, keep := kept(in); keep {
			t.Errorf("%s is scraped", what)
		}
	}
	// As the local engine does it, a label that is empty is none.
	if got, _ := kept(pod("__meta_kubernetes_pod_node_name", "")); got.Has("node") {
		t.Errorf("a pod without a node has the label: %v", got)
	}
}

func TestOfTheRuntimeOnlyWhatIsReadIsKept(t *testing.T) {
	rules := job(t, prometheusConfig(t), "mesh").MetricRelabelConfigs
	for name, want := range map[string]bool{
		"grpc_server_started_total":     true,
		"process_resident_memory_bytes": true,
		"go_goroutines":                 true,
		"go_memstats_frees_total":       false,
	} {
		b := labels.NewBuilder(labels.FromStrings("__name__", name))
		if got := relabel.ProcessBuilder(b, rules...); got != want {
			t.Errorf("%s is kept: %v, want %v", name, got, want)
		}
		if left := b.Labels(); want && left.Len() != 1 {
			t.Errorf("%s has labels more: %v", name, left)
		}
	}
}

func TestPodsOfKubeStateMetricsKeepTheirNames(t *testing.T) {
	cfg := prometheusConfig(t)
	if !job(t, cfg, "kube-state-metrics").HonorLabels {
		t.Error("its label pod would be the one that it runs in")
	}
	if cfg.StorageConfig.ExemplarsConfig.MaxExemplars == 0 {
		t.Error("no exemplars are kept")
	}
}

// Each rule file is in the ConfigMap, or Prometheus would not see it.
func TestEveryRuleFileIsMounted(t *testing.T) {
	var k struct {
		ConfigMapGenerator []struct {
			Name  string   `json:"name"`
			Files []string `json:"files"`
		} `json:"configMapGenerator"`
	}
	text, err := os.ReadFile(observability + "/prometheus/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(observability + "/prometheus/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d rule files, %v", len(files), err)
	}
	for _, file := range files {
		mounted := false
		for _, g := range k.ConfigMapGenerator {
			mounted = mounted || g.Name == "prometheus-rules" && slices.Contains(g.Files, "rules/"+filepath.Base(file))
		}
		if !mounted {
			t.Errorf("%s is not in the ConfigMap prometheus-rules", file)
		}
	}
}

package metrics

import (
	"fmt"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
)

// The two scrape pools.
const (
	meshPool = "mesh"
	labPool  = "lab"
)

// targetsDelay bounds how long a change of targets waits to be acted upon;
// several that come at once are one.
const targetsDelay = 100 * time.Millisecond

// Target is one address to scrape.
type Target struct {
	// Address is host:port; the path is /metrics.
	Address string
	// Labels are put on every series of the target: namespace, pod, service,
	// node. Where a label is empty it is left out.
	Labels map[string]string
}

// scrapeText is the scrape configuration.
//
// Protocol buffers are the one exposition format that carries exemplars and the
// times at which counters began. With those a counter that starts between two
// scrapes counts from 0, not from its first scrape: without them the first calls
// of a new replica would be missing whenever replicas are added. Compression is
// off: on loopback it would be CPU for nothing.
const scrapeText = `
global:
  scrape_interval: %[1]s
  scrape_timeout: %[1]s
  scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]
  scrape_native_histograms: false
scrape_configs:
  - job_name: ` + meshPool + `
    enable_compression: false
    fallback_scrape_protocol: PrometheusText0.0.4
    metric_relabel_configs:
      # Of the runtime and the process only what is read; the rest is half of
      # what a replica that calls nobody says.
      - source_labels: [__name__]
        regex: (go|process)_.*
        target_label: __tmp_own
        replacement: runtime
      - source_labels: [__name__]
        regex: go_goroutines|go_gc_duration_seconds_(sum|count)|go_memstats_heap_inuse_bytes|process_(cpu_seconds_total|resident_memory_bytes|open_fds|start_time_seconds)
        target_label: __tmp_own
        replacement: ""
      - source_labels: [__tmp_own]
        regex: runtime
        action: drop
  - job_name: ` + labPool + `
    enable_compression: false
    # kube-state-metrics is scraped so: pod and node are whom it tells of.
    honor_labels: true
`

func scrapeConfig(cfg Config) (*config.Config, error) {
	parsed, err := config.Load(fmt.Sprintf(scrapeText, model.Duration(cfg.interval())), cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("metrics: scrape configuration: %w", err)
	}
	return parsed, nil
}

func newScrapes(cfg Config, data storage.AppendableV2, reg prometheus.Registerer) (*scrape.Manager, error) {
	manager, err := scrape.NewManager(&scrape.Options{
		DiscoveryReloadInterval:  model.Duration(targetsDelay),
		DiscoveryReloadOnStartup: true,
		ParseST:                  true,
	}, cfg.Log, nil, nil, data, reg)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return manager, nil
}

// groups turns what is to be scraped into what a scrape manager takes.
func groups(mesh []Target, lab map[string]Target) map[string][]*targetgroup.Group {
	one := func(source string, t Target) *targetgroup.Group {
		set := model.LabelSet{}
		for name, value := range t.Labels {
			if value != "" {
				set[model.LabelName(name)] = model.LabelValue(value)
			}
		}
		return &targetgroup.Group{
			Source:  source,
			Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(t.Address)}},
			Labels:  set,
		}
	}
	all := map[string][]*targetgroup.Group{meshPool: {}, labPool: {}}
	for _, t := range mesh {
		all[meshPool] = append(all[meshPool], one(t.Address, t))
	}
	for job, t := range lab {
		t.Labels = maps.Clone(t.Labels)
		all[labPool] = append(all[labPool], one(job, t))
	}
	return all
}

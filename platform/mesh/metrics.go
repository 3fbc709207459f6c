package mesh

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	nacks    *prometheus.CounterVec
	pushed   *prometheus.CounterVec
	changes  prometheus.Counter
	streams  prometheus.Gauge
	watchers *prometheus.GaugeVec
}

func newMetrics() metrics {
	return metrics{
		nacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_mesh_nacks_total",
			Help: "Resources that a client refused; it keeps the ones it had.",
		}, []string{"caller", "type"}),
		pushed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_mesh_resources_pushed_total",
			Help: "Resources sent to clients.",
		}, []string{"type"}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_mesh_service_changes_total",
			Help: "Services that came, changed or went.",
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "spillway_mesh_streams",
			Help: "Clients connected now.",
		}),
		watchers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spillway_mesh_knob_watchers",
			Help: "Replicas that watch their knobs now.",
		}, []string{"service"}),
	}
}

func (m metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.nacks, m.pushed, m.changes, m.streams, m.watchers}
}

// Describe implements prometheus.Collector.
func (c *ControlPlane) Describe(descs chan<- *prometheus.Desc) {
	for _, collector := range c.metrics.all() {
		collector.Describe(descs)
	}
}

// Collect implements prometheus.Collector.
func (c *ControlPlane) Collect(out chan<- prometheus.Metric) {
	for _, collector := range c.metrics.all() {
		collector.Collect(out)
	}
}

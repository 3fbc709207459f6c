package main

import "github.com/prometheus/client_golang/prometheus"

// watchMetrics is how the conductor follows the cluster.
type watchMetrics struct {
	told      prometheus.Counter
	refused   prometheus.Counter
	errors    *prometheus.CounterVec
	services  prometheus.Gauge
	endpoints *prometheus.GaugeVec
}

func newWatchMetrics(registry prometheus.Registerer) (*watchMetrics, error) {
	m := &watchMetrics{
		told: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_conductor_states_total",
			Help: "States of the mesh that were worked out from the cluster's objects.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_conductor_refused_total",
			Help: "States and controls that were not allowed; what held before them holds on.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_conductor_watch_errors_total",
			Help: "Watches that ended with an error or could not begin; what was known stays.",
		}, []string{"resource"}),
		services: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "spillway_conductor_services",
			Help: "Services of the mesh.",
		}),
		endpoints: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spillway_conductor_endpoints",
			Help: "Endpoints that callers of a service are told of.",
		}, []string{"service"}),
	}
	for _, c := range []prometheus.Collector{m.told, m.refused, m.errors, m.services, m.endpoints} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

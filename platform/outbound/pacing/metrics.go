package pacing

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var rateDesc = prometheus.NewDesc("spillway_pacing_rate_per_second",
	"Calls to a callee that pacing lets out a second: this replica's, in mode global all replicas'. Absent while nothing is paced.", []string{"callee"}, nil)

// rates tells the rate in force when it is scraped.
type rates struct{ all *Pacers }

// Describe implements prometheus.Collector.
func (r rates) Describe(descs chan<- *prometheus.Desc) { descs <- rateDesc }

// Collect implements prometheus.Collector.
func (r rates) Collect(metrics chan<- prometheus.Metric) {
	mode := r.all.mode.Get()
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	for callee, p := range r.all.callees {
		rate := p.perSecond.Get()
		if mode == off || rate <= 0 {
			continue
		}
		if mode != global || p.together.Load() == nil {
			rate = float64(time.Second) / float64(r.all.interval(mode, rate))
		}
		metrics <- prometheus.MustNewConstMetric(rateDesc, prometheus.GaugeValue, rate, callee)
	}
}

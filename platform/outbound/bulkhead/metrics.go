package bulkhead

import "github.com/prometheus/client_golang/prometheus"

var inFlightDesc = prometheus.NewDesc("spillway_bulkhead_in_flight",
	"Calls to a callee that are under way now, while its bulkhead is on.", []string{"callee"}, nil)

// inFlight tells the places taken when it is scraped.
type inFlight struct{ all *Bulkheads }

// Describe implements prometheus.Collector.
func (f inFlight) Describe(descs chan<- *prometheus.Desc) { descs <- inFlightDesc }

// Collect implements prometheus.Collector.
func (f inFlight) Collect(metrics chan<- prometheus.Metric) {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	for callee, b := range f.all.callees {
		if !b.off() {
			metrics <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(b.places.taken.Load()), callee)
		}
	}
}

package breaker

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

var stateDesc = prometheus.NewDesc("spillway_breaker_state",
	"State of the circuit breaker of a callee: 0 closed, 1 half-open, 2 open. Absent while breakers are off.", []string{"callee"}, nil)

// states tells the state of every breaker when it is scraped.
type states struct{ all *Breakers }

// Describe implements prometheus.Collector.
func (s states) Describe(descs chan<- *prometheus.Desc) { descs <- stateDesc }

// Collect implements prometheus.Collector.
func (s states) Collect(metrics chan<- prometheus.Metric) {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	for callee, c := range s.all.callees {
		if now := c.current.Load(); now != nil {
			metrics <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, number(now.State()), callee)
		}
	}
}

func number(s gobreaker.State) float64 {
	switch s {
	case gobreaker.StateHalfOpen:
		return 1
	case gobreaker.StateOpen:
		return 2
	}
	return 0
}

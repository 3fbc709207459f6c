package telemetry

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
)

// Buckets are the upper bounds, in seconds, of every latency histogram, so
// that tiers can be compared: from a cache hit to a call that gave up.
func Buckets() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, 1, 2.5, 5, 10}
}

func newRegistry() (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	return registry, errors.Join(
		registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		registry.Register(collectors.NewBuildInfoCollector()),
	)
}

// MetricsHandler serves the registry, as OpenMetrics (with exemplars) to those
// who accept it and in Prometheus' text format to others.
func (t *Telemetry) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{Registry: t.registry, EnableOpenMetrics: true})
}

// Exemplar is what ties a measurement to its trace; nil when ctx's call is not
// traced, for there would be nothing to find.
func Exemplar(ctx context.Context) prometheus.Labels {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsSampled() {
		return nil
	}
	return prometheus.Labels{"trace_id": sc.TraceID().String()}
}

// Observe records a duration in seconds, with the exemplar of ctx's call.
func Observe(ctx context.Context, h prometheus.Observer, seconds float64) {
	if labels := Exemplar(ctx); labels != nil {
		if e, ok := h.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(seconds, labels)
			return
		}
	}
	h.Observe(seconds)
}

package capacity

import "github.com/prometheus/client_golang/prometheus"

func newWaitHistogram() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "spillway_capacity_wait_seconds",
		Help:    "Virtual time that an admitted request waited for a slot.",
		Buckets: []float64{0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
	})
}

func newLatenessHistogram() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "spillway_capacity_lateness_seconds",
		Help:    "Time by which a request left its slot after its virtual finish; a host without enough CPU shows here.",
		Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1},
	})
}

func newRefusedCounter() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spillway_capacity_refused_total",
		Help: "Requests refused because they would have finished after their deadline.",
	})
}

var (
	slotsDesc       = prometheus.NewDesc("spillway_capacity_slots", "Requests that this replica serves at the same time.", nil, nil)
	busyDesc        = prometheus.NewDesc("spillway_capacity_busy_slots", "Slots at work now.", nil, nil)
	busySecondsDesc = prometheus.NewDesc("spillway_capacity_busy_seconds_total", "Work done, in seconds of slots; its rate divided by the slots is the mean utilization.", nil, nil)
	utilizationDesc = prometheus.NewDesc("spillway_capacity_utilization_ratio", "Slots at work now divided by slots.", nil, nil)
	queueDesc       = prometheus.NewDesc("spillway_capacity_queue_length", "Admitted requests that no slot has taken yet: the saturation.", nil, nil)
	inFlightDesc    = prometheus.NewDesc("spillway_capacity_in_flight", "Requests inside the station: waiting or being served, callers that gave up not counted.", nil, nil)
	serviceDesc     = prometheus.NewDesc("spillway_capacity_service_seconds_mean", "Mean time that a request takes a slot now, slow-down and cold start included; slots divided by it are the calls that the replica can serve a second. 0 when the model is off.", nil, nil)
	cpuSecondsDesc  = prometheus.NewDesc("spillway_capacity_cpu_seconds_total", "CPU used, in seconds of all that the replica may use (its CPU request): its rate is the utilization of the request. Modelled, it is the work done divided by the slots; of a replica that burns, the CPU time of the process divided by the slots.", nil, nil)
)

// gauges computes what follows from the station's state when it is scraped, so that serving pays nothing for it.
type gauges struct{ station *Station }

// Describe implements prometheus.Collector.
func (g gauges) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{slotsDesc, busyDesc, busySecondsDesc, utilizationDesc, queueDesc, inFlightDesc, serviceDesc, cpuSecondsDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(metrics chan<- prometheus.Metric) {
	now := g.station.load()
	slots := float64(g.station.config.Slots)
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	gauge(slotsDesc, slots)
	gauge(busyDesc, float64(now.busy))
	metrics <- prometheus.MustNewConstMetric(busySecondsDesc, prometheus.CounterValue, now.worked.Seconds())
	gauge(utilizationDesc, float64(now.busy)/slots)
	gauge(queueDesc, float64(now.queued))
	gauge(inFlightDesc, float64(g.station.inFlight.Load()))
	gauge(serviceDesc, g.station.ServiceTime().Seconds())
	used := now.worked
	if g.station.burners != nil {
		used = processCPU()
	}
	metrics <- prometheus.MustNewConstMetric(cpuSecondsDesc, prometheus.CounterValue, used.Seconds()/slots)
}

package rig

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/shirou/gopsutil/v4/cpu"
)

// host tells how busy this machine is: a run on one that is too busy is not
// honest.
type host struct{ busy, stolen, total *prometheus.Desc }

func newHost() host {
	return host{
		busy: prometheus.NewDesc("spillway_host_cpu_busy_seconds_total",
			"Time in which the cores of this machine worked, in seconds of one core.", nil, nil),
		stolen: prometheus.NewDesc("spillway_host_cpu_stolen_seconds_total",
			"Time for which a hypervisor kept this machine, which had work, waiting, in seconds of one core; part of the busy time.", nil, nil),
		total: prometheus.NewDesc("spillway_host_cpu_seconds_total",
			"Time that passed for all cores of this machine, in seconds of one core.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (h host) Describe(out chan<- *prometheus.Desc) {
	out <- h.busy
	out <- h.stolen
	out <- h.total
}

// Collect implements prometheus.Collector.
func (h host) Collect(out chan<- prometheus.Metric) {
	times, err := cpu.Times(false)
	if err != nil || len(times) == 0 {
		return // a system that does not tell: the run's record says that it was not measured
	}
	t := times[0]
	busy := t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal
	out <- prometheus.MustNewConstMetric(h.busy, prometheus.CounterValue, busy)
	out <- prometheus.MustNewConstMetric(h.stolen, prometheus.CounterValue, t.Steal)
	out <- prometheus.MustNewConstMetric(h.total, prometheus.CounterValue, busy+t.Idle+t.Iowait)
}

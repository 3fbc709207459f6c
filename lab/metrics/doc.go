// Package metrics is the lab's metrics store: Prometheus as a library. It
// scrapes the replicas of a run, keeps the series in a TSDB in the run's
// directory, evaluates the rule files that a cluster's Prometheus loads too, and
// answers PromQL in the process and on a loopback address, where Grafana and
// promtool find the HTTP API that they know.
//
// A store may run in time-lapse: scrapes and rules then go N times as fast as
// written down, see package timelapse. Rates stay per real second.
//
// What a run leaves behind is read with OpenFinished, also when the run was
// killed.
package metrics

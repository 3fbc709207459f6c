// Package main is the conductor: the mesh's control plane in a cluster. It tells callers over xDS which endpoints are ready,
// injects faults and hands out knobs, and answers the HorizontalPodAutoscalers' custom and external metrics from Prometheus.
//
// Two replicas are equal and neither leads: both watch the same objects, what they tell follows from those alone, and a
// client that moves from one to the other is told everything anew. A replica keeps telling what it knew while the API
// server is away, and xDS does not depend on Prometheus at all.
//
// Beside a cluster, on the current context of the kubeconfig; package boot lists the variables of every service:
//
//	SPILLWAY_NAMESPACE=spillway SPILLWAY_METRICS_API_ADDR=off conductor
//
//	SPILLWAY_NAMESPACE        the pod's or the context's   the namespace of the mesh
//	SPILLWAY_XDS_ADDR         :18000                       where ADS and KnobService listen
//	SPILLWAY_METRICS_API_ADDR :8443                        where custom and external metrics are served over TLS; off: nowhere
//	SPILLWAY_METRICS_RULES    /etc/spillway/metrics.yaml   which metrics, in prometheus-adapter's format
//	SPILLWAY_PROMETHEUS_URL   http://prometheus.observability:9090
package main

import "spillway.dev/platform/boot"

func main() { boot.Main(spec()) }

func spec() boot.Spec {
	cfg := new(config)
	return boot.Spec{Name: "conductor", Config: cfg, Build: cfg.build}
}

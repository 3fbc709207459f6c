// Package observers loads what k8s/observability configures with the programs' own
// code: Prometheus, Alertmanager and the OpenTelemetry Collector. Its module is
// apart from the others, so that none of their dependencies reach the lab.
package observers

const observability = "../../k8s/observability"

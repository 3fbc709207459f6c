package main

import (
	"strings"
	"testing"
)

func TestConfigIsChecked(t *testing.T) {
	const rules = "../../k8s/observability/prometheus-adapter/config.yaml"
	right := config{XDSAddr: ":18000", MetricsAPIAddr: "127.0.0.1:8443", MetricsRules: rules, PrometheusURL: "http://prometheus:9090"}
	if err := right.Validate(); err != nil || right.rules == nil || right.metricsPort != 8443 || right.metricsHost.String() != "127.0.0.1" {
		t.Errorf("got %v, %+v", err, right)
	}
	without := config{XDSAddr: ":18000", MetricsAPIAddr: "off"}
	if err := without.Validate(); err != nil {
		t.Errorf("without the metrics API: %v", err)
	}
	for want, change := range map[string]func(*config){
		`SPILLWAY_XDS_ADDR="18000"`:             func(c *config) { c.XDSAddr = "18000" },
		`SPILLWAY_METRICS_API_ADDR="host:8443"`: func(c *config) { c.MetricsAPIAddr = "host:8443" },
		`SPILLWAY_METRICS_RULES="none"`:         func(c *config) { c.MetricsRules = "none" },
		`SPILLWAY_PROMETHEUS_URL="prometheus"`:  func(c *config) { c.PrometheusURL = "prometheus" },
	} {
		wrong := right
		change(&wrong)
		if err := wrong.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

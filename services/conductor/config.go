package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"

	"spillway.dev/platform/metricsrules"
)

// off is the metrics API's address where something else serves it, such as prometheus-adapter or KEDA.
const off = "off"

// config is what the environment says.
type config struct {
	Namespace string `env:"SPILLWAY_NAMESPACE"`
	XDSAddr   string `env:"SPILLWAY_XDS_ADDR" envDefault:":18000"`

	MetricsAPIAddr string `env:"SPILLWAY_METRICS_API_ADDR" envDefault:":8443"`
	MetricsRules   string `env:"SPILLWAY_METRICS_RULES" envDefault:"/etc/spillway/metrics.yaml"`
	PrometheusURL  string `env:"SPILLWAY_PROMETHEUS_URL" envDefault:"http://prometheus.observability:9090"`

	rules       *metricsrules.Config // what MetricsRules holds; nil when the metrics API is off. Set by Validate
	metricsHost net.IP               // MetricsAPIAddr's parts, likewise
	metricsPort int
}

// Validate checks what the types do not, and reads the rules.
func (c *config) Validate() error {
	var errs []error
	if _, _, err := splitAddress(c.XDSAddr); err != nil {
		errs = append(errs, fmt.Errorf("SPILLWAY_XDS_ADDR=%q is not allowed: give IP:port or :port", c.XDSAddr))
	}
	if c.MetricsAPIAddr == off {
		return errors.Join(errs...)
	}
	var err error
	if c.metricsHost, c.metricsPort, err = splitAddress(c.MetricsAPIAddr); err != nil {
		errs = append(errs, fmt.Errorf("SPILLWAY_METRICS_API_ADDR=%q is not allowed: give IP:port, :port or off", c.MetricsAPIAddr))
	}
	if c.rules, err = readRules(c.MetricsRules); err != nil {
		errs = append(errs, fmt.Errorf("SPILLWAY_METRICS_RULES=%q is not allowed: %w", c.MetricsRules, err))
	}
	if at, err := url.Parse(c.PrometheusURL); err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		errs = append(errs, fmt.Errorf("SPILLWAY_PROMETHEUS_URL=%q is not allowed: give http://host:port", c.PrometheusURL))
	}
	return errors.Join(errs...)
}

func readRules(path string) (*metricsrules.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return metricsrules.Parse(text)
}

// splitAddress takes an address to listen on apart; no host stands for all of them.
func splitAddress(addr string) (net.IP, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, 0, err
	}
	if host == "" {
		return net.IPv6unspecified, int(port), nil
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, 0, fmt.Errorf("%q is no IP address", host)
	}
	return ip, int(port), nil
}

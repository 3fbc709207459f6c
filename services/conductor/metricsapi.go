package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/pflag"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/cmd"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/cmd/options"
	"sigs.k8s.io/custom-metrics-apiserver/pkg/provider"
)

// metricsAPI is the aggregated API server of custom.metrics.k8s.io and external.metrics.k8s.io.
type metricsAPI struct {
	host       net.IP
	port       int
	kubeconfig string // empty: the pod's service account
	provider   provider.MetricsProvider
}

// run serves until ctx ends and requests have been answered. It begins by asking the API server whom to trust, and fails
// when that is away.
func (a metricsAPI) run(ctx context.Context) error {
	opts := options.NewCustomMetricsAdapterServerOptions()
	opts.SecureServing.BindAddress, opts.SecureServing.BindPort = a.host, a.port
	// A self-signed certificate that is kept in memory: the pod's file system is read-only.
	opts.SecureServing.ServerCert.CertDirectory = ""
	opts.Authentication.RemoteKubeConfigFile, opts.Authorization.RemoteKubeConfigFile = a.kubeconfig, a.kubeconfig
	opts.Features.EnableProfiling = false // boot's admin port has it
	opts.EnableMetrics = false            // likewise
	base := cmd.AdapterBase{
		CustomMetricsAdapterServerOptions: opts,
		Name:                              "spillway-conductor",
		RemoteKubeConfigFile:              a.kubeconfig,
		FlagSet:                           pflag.NewFlagSet("conductor", pflag.ContinueOnError),
	}
	base.WithCustomMetrics(a.provider)
	base.WithExternalMetrics(a.provider)
	if err := base.Run(ctx); err != nil {
		return fmt.Errorf("metrics API on port %d: %w", a.port, err)
	}
	return nil
}

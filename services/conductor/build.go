package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/mesh"
	"spillway.dev/platform/metricsrules"
)

// build makes the parts. The mesh is served as soon as it is known, before the replica is ready; metrics are served from
// ready on.
func (c *config) build(_ context.Context, app *boot.App) error {
	klog.SetSlogLogger(app.Log())
	at, namespace, err := c.cluster()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(at)
	if err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	plane := mesh.NewControlPlane(app.Log())
	if err := app.Registerer().Register(plane); err != nil {
		return fmt.Errorf("metrics of the control plane: %w", err)
	}
	observed, err := newWatchMetrics(app.Registerer())
	if err != nil {
		return fmt.Errorf("metrics of the watch: %w", err)
	}
	watch, err := newWatcher(client, namespace, plane, observed, app.Log())
	if err != nil {
		return err
	}
	xds, err := net.Listen("tcp", c.XDSAddr)
	if err != nil {
		return fmt.Errorf("cannot listen on SPILLWAY_XDS_ADDR=%q (give a free address of this host): %w", c.XDSAddr, err)
	}
	watch.conduct(app, xds)
	if c.MetricsAPIAddr == off {
		return nil
	}
	return c.serveMetrics(app, at)
}

// conduct watches from the first try to reach the cluster until the drain is over, and serves xDS all that time: callers
// that are told late of the end of this replica still hear of changes.
func (w *watcher) conduct(app *boot.App, xds net.Listener) {
	ctx, end := context.WithCancel(context.Background())
	var begin sync.Once
	var running sync.WaitGroup
	app.Require("kubernetes", func(attempt context.Context) error {
		begin.Do(func() {
			running.Go(func() { w.run(ctx) })
			running.Go(func() {
				if err := w.plane.Serve(ctx, xds); err != nil {
					app.Log().Error("xDS cannot be served any more", "error", err)
				}
			})
		})
		return w.ready(attempt)
	})
	app.OnClose("mesh", func(context.Context) error {
		end()
		begin.Do(func() { _ = xds.Close() }) // nothing was begun, and nothing was served on it
		running.Wait()
		return nil
	})
}

// serveMetrics adds the metrics API. Without it, and while it cannot be served, the mesh goes on.
func (c *config) serveMetrics(app *boot.App, at *rest.Config) error {
	query, err := prometheusAt(c.PrometheusURL)
	if err != nil {
		return err
	}
	mapper := metricsrules.Mapper()
	rules, err := metricsrules.New(c.rules, mapper, query, metricsrules.Plain{})
	if err != nil {
		return fmt.Errorf("SPILLWAY_METRICS_RULES=%q is not allowed: %w", c.MetricsRules, err)
	}
	objects, err := metadata.NewForConfig(at)
	if err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	failed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "spillway_conductor_metric_queries_failed_total",
		Help: "Requests for metrics that Prometheus did not answer; an HPA that made one holds its replicas.",
	})
	if err := app.Registerer().Register(failed); err != nil {
		return fmt.Errorf("metrics of the metrics API: %w", err)
	}
	served := metricsAPI{
		host: c.metricsHost, port: c.metricsPort, kubeconfig: os.Getenv(clientcmd.RecommendedConfigPathEnvVar),
		provider: &metrics{rules: rules, mapper: mapper, objects: objects, failed: failed.Inc, log: app.Log()},
	}
	app.Worker("metrics-api", served.run)
	return nil
}

// cluster is the API server and the namespace of the mesh: the pod's own, or those of the kubeconfig's current context.
func (c *config) cluster() (*rest.Config, string, error) {
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	at, err := loaded.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("no API server (run in a pod with a service account, or set KUBECONFIG): %w", err)
	}
	namespace := c.Namespace
	if namespace == "" {
		if namespace, _, err = loaded.Namespace(); err != nil {
			return nil, "", fmt.Errorf("no namespace (set SPILLWAY_NAMESPACE): %w", err)
		}
	}
	at.UserAgent = "spillway-conductor"
	return at, namespace, nil
}

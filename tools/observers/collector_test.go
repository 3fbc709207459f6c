package observers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/healthcheckextension"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/filelogreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

// factories are the parts of the collector's image that our configurations name.
func factories() (f otelcol.Factories, err error) {
	var errs [4]error
	f.Receivers, errs[0] = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory(), filelogreceiver.NewFactory())
	f.Processors, errs[1] = otelcol.MakeFactoryMap[processor.Factory](memorylimiterprocessor.NewFactory(), batchprocessor.NewFactory())
	f.Exporters, errs[2] = otelcol.MakeFactoryMap[exporter.Factory](otlpexporter.NewFactory(), otlphttpexporter.NewFactory())
	f.Extensions, errs[3] = otelcol.MakeFactoryMap[extension.Factory](healthcheckextension.NewFactory())
	f.Telemetry = otelconftelemetry.NewFactory()
	return f, errors.Join(errs[:]...)
}

// collector is one with a configuration of ours, and what the test changes in it.
func collector(t *testing.T, name string, changes ...string) *otelcol.Collector {
	t.Helper()
	uris := []string{"file:" + filepath.Join(observability, name, "collector.yaml")}
	for _, change := range changes {
		uris = append(uris, "yaml:"+change)
	}
	c, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              uris,
			ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory(), yamlprovider.NewFactory()},
		}},
		DisableGracefulShutdown: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCollectorsTakeTheirConfiguration(t *testing.T) {
	for _, name := range []string{"otel-collector", "log-collector"} {
		if err := collector(t, name).DryRun(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The check can fail.
	if err := collector(t, "otel-collector", "exporters::otlp_grpc::endpiont: jaeger:4317").DryRun(t.Context()); err == nil {
		t.Error("a key that does not exist is taken")
	}
}

// A line that a service wrote comes to Loki with its service, its pod and its
// trace; one that is no JSON comes too.
func TestALogLineKeepsItsTrace(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	records := make(chan plog.Logs, 16)
	loki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := plogotlp.NewExportRequest()
		if err = errors.Join(err, request.UnmarshalProto(body)); err != nil || r.URL.Path != "/otlp/v1/logs" {
			http.Error(w, fmt.Sprint(r.URL.Path, err), http.StatusBadRequest)
			return
		}
		records <- request.Logs()
		answer, err := plogotlp.NewExportResponse().MarshalProto()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}))
	t.Cleanup(loki.Close)

	pods := t.TempDir()
	write := func(pod, container, text string) {
		dir := filepath.Join(pods, "spillway_"+pod+"_11111111-2222-3333-4444-555555555555", container)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte("2026-01-02T03:04:05.678901234Z stderr F "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("order-7c9-abc", "service", `{"time":"2026-01-02T03:04:05.6789Z","level":"WARN","msg":"held","service":"order","instance":"order-7c9-abc","trace_id":"`+trace+`","span_id":"`+span+`"}`)
	write("session-5d8-xyz", "service-untraced", `{"time":"2026-01-02T03:04:05.6789Z","level":"INFO","msg":"touched","service":"session","trace_id":"`+trace+`"}`)
	write("redis-0", "redis", "1:M 02 Jan 2026 03:04:05.678 * Ready to accept connections")

	c := collector(t, "log-collector",
		"receivers::file_log::include: ['"+pods+"/spillway_*/*/*.log']",
		"receivers::file_log::poll_interval: 20ms",
		"processors::batch::timeout: 10ms",
		"exporters::otlp_http::endpoint: "+loki.URL+"/otlp",
		"exporters::otlp_http::compression: none",
		"extensions::health_check::endpoint: 127.0.0.1:0",
		"service::telemetry::metrics::level: none",
	)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	type line struct{ service, pod, namespace, trace, span, severity string }
	got := map[string]line{}
	deadline := time.After(60 * time.Second)
	for len(got) < 3 {
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the collector ended: %v", err)
		case <-deadline:
			t.Fatalf("only %v arrived", got)
		case logs := <-records:
			for _, resource := range logs.ResourceLogs().All() {
				of := func(name string) string {
					value, _ := resource.Resource().Attributes().Get(name)
					return value.AsString()
				}
				for _, scope := range resource.ScopeLogs().All() {
					for _, r := range scope.LogRecords().All() {
						got[of("k8s.container.name")] = line{
							of("service.name"), of("k8s.pod.name"), of("k8s.namespace.name"),
							r.TraceID().String(), r.SpanID().String(), r.SeverityNumber().String(),
						}
						if _, twice := r.Attributes().Get("trace_id"); twice {
							t.Error("the trace is an attribute too; Loki would have two of it")
						}
						if r.Body().Str() == "" {
							t.Error("a line has no text")
						}
					}
				}
			}
		}
	}
	want := map[string]line{
		"service":          {"order", "order-7c9-abc", "spillway", trace, span, "Warn"},
		"service-untraced": {"session", "session-5d8-xyz", "spillway", trace, "", "Info"},
		"redis":            {"redis", "redis-0", "spillway", "", "", "Unspecified"},
	}
	for container, line := range want {
		if got[container] != line {
			t.Errorf("of %s: got %+v, want %+v", container, got[container], line)
		}
	}
}

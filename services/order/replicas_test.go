package main

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/telemetry"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
)

// brokers are real NATS servers that keep JetStream together.
func brokers(t *testing.T, n int) []*natsd.Server {
	t.Helper()
	var ports []int
	var routes []*url.URL
	for range n {
		ports = append(ports, freePort(t))
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[len(ports)-1])})
	}
	var servers []*natsd.Server
	for i, port := range ports {
		servers = append(servers, broker(t, natsd.Options{
			ServerName: fmt.Sprint("nats-", i), Routes: routes,
			Cluster: natsd.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
		}))
	}
	return servers
}

// With three servers of NATS each keeps everything, and orders are read and
// written when one of them is gone for good.
func TestOneOfThreeServersMayGo(t *testing.T) {
	servers := brokers(t, 3)
	nc, err := nats.Connect(servers[0].ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	messaging, err := telemetry.NewMessaging(noop.NewTracerProvider().Tracer(""), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	st, err := newStore(nc, messaging, "order-test", 3)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is kept in NATS is there", func() bool { return st.ensure(t.Context()) == nil })
	for _, name := range []string{keyspace.CheckoutsStream, keyspace.SalesStream, "KV_" + keyspace.OrdersBucket} {
		stream, err := st.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if kept := stream.CachedInfo().Config.Replicas; kept != 3 {
			t.Errorf("%s is kept by %d servers", name, kept)
		}
	}
	first, err := st.put(t.Context(), record{}, &orderv1.Order{OrderId: "o-1"})
	if err != nil {
		t.Fatal(err)
	}
	servers[2].Shutdown()
	servers[2].WaitForShutdown()
	// Whoever led may have been the one that went: the others agree on another.
	eventually(t, "the order is read", func() bool {
		got, err := st.get(t.Context(), "o-1")
		return err == nil && got.exists()
	})
	if _, err := st.put(t.Context(), first, &orderv1.Order{OrderId: "o-1", AmountCents: 4500}); err != nil {
		t.Errorf("write with one server less: %v", err)
	}
	eventually(t, "an order is put on the queue", func() bool { return st.queue(t.Context(), "o-1") == nil })
}

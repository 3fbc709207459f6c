package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at finds every port at one address.
func at(address string) func(intstr.IntOrString) (string, error) {
	return func(intstr.IntOrString) (string, error) { return address, nil }
}

func ask(t *testing.T, p corev1.ProbeHandler, address string) error {
	t.Helper()
	asker := NewAsker(at(address))
	defer asker.Close()
	_, check, err := asker.New(&corev1.Probe{ProbeHandler: p})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return check(ctx)
}

func TestGRPC(t *testing.T) {
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := health.NewServer()
	h.SetServingStatus("well", healthpb.HealthCheckResponse_SERVING)
	h.SetServingStatus("ill", healthpb.HealthCheckResponse_NOT_SERVING)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, h)
	done := make(chan error)
	go func() { done <- s.Serve(lis) }()
	for service, want := range map[string]string{"well": "", "ill": "NOT_SERVING", "nobody": "unknown service"} {
		err := ask(t, corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9000, Service: &service}}, lis.Addr().String())
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("health service %s: %v, want %q", service, err, want)
		}
	}
	s.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := ask(t, corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9000}}, lis.Addr().String()); err == nil {
		t.Error("nobody listens, and it is well")
	}
}

// counter counts what a listener accepts.
type counter struct {
	net.Listener
	accepted atomic.Int64
}

func (c *counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}

// A container that is started again in place is asked at the same address.
func TestGRPCKeepsItsConnectionForAsLongAsItLasts(t *testing.T) {
	serve := func(address string) (lis *counter, stop func()) {
		t.Helper()
		inner, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		lis = &counter{Listener: inner}
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, health.NewServer())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := s.Serve(lis); err != nil {
				t.Error(err)
			}
		})
		return lis, func() { s.Stop(); serving.Wait() }
	}
	lis, stop := serve("127.0.0.1:0")
	address := lis.Addr().String()
	asker := NewAsker(at(address))
	defer asker.Close()
	_, check, err := asker.New(&corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9000}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 5 {
		if err := check(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := lis.accepted.Load(); n != 1 {
		t.Errorf("five questions took %d connections, want 1", n)
	}
	stop()
	if err := check(ctx); err == nil {
		t.Error("nobody listens, and it is well")
	}
	_, stop = serve(address)
	if err := check(ctx); err != nil {
		t.Errorf("the next one at the same address: %v", err)
	}
	// Ended and begun again between two questions: the first connection is dead.
	stop()
	_, stop = serve(address)
	defer stop()
	if err := check(ctx); err != nil {
		t.Errorf("one that came in between: %v", err)
	}
}

func TestHTTPAndTCP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	address := s.Listener.Addr().String()
	get := func(path string) error {
		return ask(t, corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path}}, address)
	}
	tcp := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}
	if err := get("/healthz"); err != nil {
		t.Error(err)
	}
	if err := get("/"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a 503 is %v", err)
	}
	if err := ask(t, tcp, address); err != nil {
		t.Error(err)
	}
	s.Close()
	if err := ask(t, tcp, address); err == nil {
		t.Error("nobody listens, and it is well")
	}
}

func TestNewHasTheDefaultsOfKubernetes(t *testing.T) {
	handler := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}
	asker := NewAsker(at(""))
	defer asker.Close()
	got, _, err := asker.New(&corev1.Probe{ProbeHandler: handler})
	if want := (Timing{0, 10 * time.Second, time.Second, 1, 3}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	got, _, err = asker.New(&corev1.Probe{ProbeHandler: handler, InitialDelaySeconds: 1, PeriodSeconds: 2, TimeoutSeconds: 3, SuccessThreshold: 4, FailureThreshold: 5})
	if want := (Timing{time.Second, 2 * time.Second, 3 * time.Second, 4, 5}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, _, err := asker.New(&corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}); err == nil {
		t.Error("an exec probe is no error")
	}
}

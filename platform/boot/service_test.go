package boot_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
)

const testService = "grpc.testing.TestService"

// service is grpc-go's test service with the handlers that a test needs.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary  func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	stream func(grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error
}

func (s *service) UnaryCall(ctx context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.unary == nil {
		return &testpb.SimpleResponse{}, nil
	}
	return s.unary(ctx, req)
}

func (s *service) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	return s.stream(stream)
}

// spec is a service that registers s and then does what more says.
func spec(s *service, more func(app *boot.App) error) boot.Spec {
	return boot.Spec{Name: "example", Build: func(_ context.Context, app *boot.App) error {
		testpb.RegisterTestServiceServer(app.Server(), s)
		if more == nil {
			return nil
		}
		return more(app)
	}}
}

func call(t *testing.T, conn grpc.ClientConnInterface) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := testpb.NewTestServiceClient(conn).UnaryCall(ctx, &testpb.SimpleRequest{})
	return err
}

// statuses is what the replica's health service lists: name → SERVING or not.
func statuses(t *testing.T, r *boottest.Replica) map[string]string {
	t.Helper()
	list, err := healthpb.NewHealthClient(r.Conn).List(t.Context(), &healthpb.HealthListRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, s := range list.GetStatuses() {
		got[name] = s.GetStatus().String()
	}
	return got
}

// healthz is the state that the admin port tells, and the HTTP status it tells it with.
func healthz(t *testing.T, r *boottest.Replica) (state string, status int) {
	t.Helper()
	resp, err := http.Get("http://" + r.Addr("admin") + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	var body struct{ Service, State string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.State, resp.StatusCode
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not in 30 s: %s", what)
}

// diary is what happened, in order.
type diary struct {
	mu     sync.Mutex
	events []string
}

func (d *diary) note(event string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, event)
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

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
	"google.golang.org/protobuf/types/known/wrapperspb"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
)

const (
	exampleService = "spillway.example.v1.ExampleService"
	doMethod       = "/" + exampleService + "/Do"
	echoMethod     = "/" + exampleService + "/Echo"
)

// service is an RPC service of one unary call and one stream, with the handlers that a test needs.
type service struct {
	do   func(ctx context.Context, text string) (string, error)
	echo func(stream grpc.ServerStream) error
}

// register adds the service as generated code would.
func (s *service) register(to grpc.ServiceRegistrar) {
	to.RegisterService(&grpc.ServiceDesc{
		ServiceName: exampleService,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(srv any, ctx context.Context, decode func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
			req := &wrapperspb.StringValue{}
			if err := decode(req); err != nil {
				return nil, err
			}
			return in(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: doMethod}, func(ctx context.Context, _ any) (any, error) {
				if s.do == nil {
					return req, nil
				}
				text, err := s.do(ctx, req.GetValue())
				return wrapperspb.String(text), err
			})
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Echo", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return s.echo(stream) }}},
	}, s)
}

// spec is a service that registers s and then does what more says.
func spec(s *service, more func(app *boot.App) error) boot.Spec {
	return boot.Spec{Name: "example", Build: func(_ context.Context, app *boot.App) error {
		s.register(app.Server())
		if more == nil {
			return nil
		}
		return more(app)
	}}
}

// do calls Do.
func do(ctx context.Context, conn grpc.ClientConnInterface, text string) (string, error) {
	resp := &wrapperspb.StringValue{}
	err := conn.Invoke(ctx, doMethod, wrapperspb.String(text), resp)
	return resp.GetValue(), err
}

func call(t *testing.T, conn grpc.ClientConnInterface) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := do(ctx, conn, "")
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

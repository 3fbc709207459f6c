package boot_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/problem"
)

// whoCalls is a service that answers with its caller's name and what header came in.
func whoCalls() *service {
	return &service{do: func(ctx context.Context, _ string) (string, error) {
		return identity.Caller(ctx) + " " + strings.Join(metadata.ValueFromIncomingContext(ctx, identity.Header), ","), nil
	}}
}

func TestCallerIsKnownInsideAndDroppedAtTheEdge(t *testing.T) {
	inner := boottest.Start(t, spec(whoCalls(), nil))
	edge := whoCalls()
	var down *grpc.ClientConn
	edgeSpec := boot.Spec{Name: "gateway", Edge: true, Build: func(_ context.Context, app *boot.App) (err error) {
		edge.register(app.Server())
		down, err = app.Dial("example", inner.Addr("grpc"))
		return err
	}}
	outer := boottest.Start(t, edgeSpec)
	inner.WaitServing()
	outer.WaitServing()

	spoofed := metadata.AppendToOutgoingContext(t.Context(), identity.Header, "order")
	forged := metadata.AppendToOutgoingContext(t.Context(), identity.Header, "order", identity.Header, "payment")
	for name, test := range map[string]struct {
		ctx    context.Context
		conn   *grpc.ClientConn
		want   string
		reason string
	}{
		"nobody":                    {t.Context(), inner.Conn, "external ", ""},
		"a service":                 {spoofed, inner.Conn, "order order", ""},
		"a service, twice":          {forged, inner.Conn, "", problem.CallerInvalid},
		"the edge calls on":         {t.Context(), down, "gateway gateway", ""},
		"the edge cannot be misled": {spoofed, down, "gateway gateway", ""},
		"spoofed at the edge":       {spoofed, outer.Conn, "external ", ""},
		"forged at the edge":        {forged, outer.Conn, "external ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := do(test.ctx, test.conn, "")
			if got != test.want || problem.Reason(err) != test.reason {
				t.Errorf("got %q, %v; want %q, %q", got, err, test.want, test.reason)
			}
		})
	}
}

func TestWhatLeavesTheServer(t *testing.T) {
	s := &service{do: func(_ context.Context, text string) (string, error) {
		switch text {
		case "plain":
			return "", errors.New("password=hunter2")
		case "panic":
			panic("password=hunter2")
		case "wrapped":
			return "", errors.Join(errors.New("password=hunter2"), problem.New(codes.NotFound, "NO_SUCH_SHOW", "there is no such show"))
		}
		return "", nil
	}}
	r := boottest.Start(t, spec(s, nil))
	r.WaitServing()
	for text, want := range map[string]struct {
		code   codes.Code
		reason string
	}{
		"plain":                         {codes.Internal, problem.Internal},
		"panic":                         {codes.Internal, problem.Internal},
		"wrapped":                       {codes.NotFound, "NO_SUCH_SHOW"},
		strings.Repeat("x", 1<<20+1):    {codes.ResourceExhausted, problem.MessageTooLarge},
		strings.Repeat("x", 1<<20-1024): {codes.OK, ""},
	} {
		t.Run(text[:min(len(text), 7)], func(t *testing.T) {
			_, err := do(t.Context(), r.Conn, text)
			if status.Code(err) != want.code || problem.Reason(err) != want.reason {
				t.Errorf("got %v, %s; want %v, %s", status.Code(err), problem.Reason(err), want.code, want.reason)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the text of a foreign error left the server: %v", err)
			}
		})
	}
}

func TestReflection(t *testing.T) {
	r := boottest.Start(t, spec(&service{}, nil))
	r.WaitServing()
	stream, err := reflectionpb.NewServerReflectionClient(r.Conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{exampleService, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("reflection ended with %v", err)
	}
}

func TestAdminPort(t *testing.T) {
	r := boottest.Start(t, spec(&service{}, nil), "SPILLWAY_ZONE=a")
	r.WaitServing()
	if err := call(t, r.Conn); err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]string{
		"/metrics":                     exampleService,
		"/healthz":                     `{"service":"example","instance":"example-test","zone":"a","state":"serving"}`,
		"/debug/pprof/goroutine":       "",
		"/debug/pprof/cmdline":         "",
		"/debug/pprof/symbol?0x401000": "num_symbols",
	} {
		resp, err := http.Get("http://" + r.Addr("admin") + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v; want %q in\n%.2000s", path, resp.Status, err, want, body)
		}
	}
}

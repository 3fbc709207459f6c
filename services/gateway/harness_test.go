package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/boot"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
	ticketingv1 "spillway.dev/proto/gen/spillway/ticketing/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	token   = "c2VjcmV0LXRva2VuLW9mLWFubi1uby1vbmUtbWF5LXNlZQ"
	card    = "tok_4111111111111111"
	orderID = "o-abcdefghijklmnopqrstuvwxyz"
)

// sessionEnd is when ann's session ends: far off, in whole seconds, as cookies have it.
var sessionEnd = time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)

// mesh is the downstreams as tests want them. A function that is nil answers UNIMPLEMENTED.
type mesh struct {
	sessionv1.UnimplementedSessionServiceServer
	signIn  func(context.Context, *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error)
	touch   func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error)
	refresh func(context.Context, *sessionv1.RefreshRequest) (*sessionv1.RefreshResponse, error)
	revoke  func(context.Context, *sessionv1.RevokeRequest) (*sessionv1.RevokeResponse, error)
	all     func(context.Context, *sessionv1.RevokeAllRequest) (*sessionv1.RevokeAllResponse, error)

	catalog   catalogStub
	order     orderStub
	ticketing ticketingStub
}

type catalogStub struct {
	catalogv1.UnimplementedCatalogServiceServer
	list  func(context.Context, *catalogv1.ListShowsRequest) (*catalogv1.ListShowsResponse, error)
	seats func(context.Context, *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error)
}

type orderStub struct {
	orderv1.UnimplementedOrderServiceServer
	checkout func(context.Context, *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error)
	get      func(context.Context, *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error)
}

type ticketingStub struct {
	ticketingv1.UnimplementedTicketingServiceServer
	get func(context.Context, *ticketingv1.GetTicketRequest) (*ticketingv1.GetTicketResponse, error)
}

func (m *mesh) SignIn(ctx context.Context, req *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
	if m.signIn == nil {
		return m.UnimplementedSessionServiceServer.SignIn(ctx, req)
	}
	return m.signIn(ctx, req)
}

func (m *mesh) Touch(ctx context.Context, req *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
	if m.touch == nil {
		return m.UnimplementedSessionServiceServer.Touch(ctx, req)
	}
	return m.touch(ctx, req)
}

func (m *mesh) Refresh(ctx context.Context, req *sessionv1.RefreshRequest) (*sessionv1.RefreshResponse, error) {
	if m.refresh == nil {
		return m.UnimplementedSessionServiceServer.Refresh(ctx, req)
	}
	return m.refresh(ctx, req)
}

func (m *mesh) Revoke(ctx context.Context, req *sessionv1.RevokeRequest) (*sessionv1.RevokeResponse, error) {
	if m.revoke == nil {
		return m.UnimplementedSessionServiceServer.Revoke(ctx, req)
	}
	return m.revoke(ctx, req)
}

func (m *mesh) RevokeAll(ctx context.Context, req *sessionv1.RevokeAllRequest) (*sessionv1.RevokeAllResponse, error) {
	if m.all == nil {
		return m.UnimplementedSessionServiceServer.RevokeAll(ctx, req)
	}
	return m.all(ctx, req)
}

func (s *catalogStub) ListShows(ctx context.Context, req *catalogv1.ListShowsRequest) (*catalogv1.ListShowsResponse, error) {
	if s.list == nil {
		return s.UnimplementedCatalogServiceServer.ListShows(ctx, req)
	}
	return s.list(ctx, req)
}

func (s *catalogStub) GetSeatMap(ctx context.Context, req *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error) {
	if s.seats == nil {
		return s.UnimplementedCatalogServiceServer.GetSeatMap(ctx, req)
	}
	return s.seats(ctx, req)
}

func (s *orderStub) Checkout(ctx context.Context, req *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
	if s.checkout == nil {
		return s.UnimplementedOrderServiceServer.Checkout(ctx, req)
	}
	return s.checkout(ctx, req)
}

func (s *orderStub) GetOrder(ctx context.Context, req *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
	if s.get == nil {
		return s.UnimplementedOrderServiceServer.GetOrder(ctx, req)
	}
	return s.get(ctx, req)
}

func (s *ticketingStub) GetTicket(ctx context.Context, req *ticketingv1.GetTicketRequest) (*ticketingv1.GetTicketResponse, error) {
	if s.get == nil {
		return s.UnimplementedTicketingServiceServer.GetTicket(ctx, req)
	}
	return s.get(ctx, req)
}

// ann signs in, and holds the only token there is.
func ann() *mesh {
	return &mesh{
		signIn: func(context.Context, *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
			return &sessionv1.SignInResponse{Token: token, ExpiresAt: timestamppb.New(sessionEnd)}, nil
		},
		touch: func(_ context.Context, req *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
			if req.GetToken() != token {
				return nil, errForged
			}
			return &sessionv1.TouchResponse{PersonId: "ann", ExpiresAt: timestamppb.New(sessionEnd)}, nil
		},
	}
}

// gateway is a running gateway as people and operators reach it.
type gateway struct {
	base  string // of HTTP
	admin string
	rpc   gatewayv1.GatewayServiceClient
	conn  *grpc.ClientConn
	http  *http.Client
	logs  *logBuffer
	stop  func() // drains; at the latest at the end of the test
}

// start runs the gateway over the mesh, as its main does, with more environment.
func start(t *testing.T, m *mesh, environ ...string) *gateway {
	t.Helper()
	downstream := serve(t, func(s *grpc.Server) {
		sessionv1.RegisterSessionServiceServer(s, m)
		catalogv1.RegisterCatalogServiceServer(s, &m.catalog)
		orderv1.RegisterOrderServiceServer(s, &m.order)
		ticketingv1.RegisterTicketingServiceServer(s, &m.ticketing)
	})
	grpcAddr, httpAddr, adminAddr := freeAddr(t), freeAddr(t), freeAddr(t)
	g := &gateway{base: "http://" + httpAddr, admin: "http://" + adminAddr, logs: &logBuffer{}, http: &http.Client{Transport: &http.Transport{}}}
	ctx, drain := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- boot.Run(ctx, spec(), append([]string{
			"SPILLWAY_GRPC_ADDR=" + grpcAddr,
			"SPILLWAY_HTTP_ADDR=" + httpAddr,
			"SPILLWAY_ADMIN_ADDR=" + adminAddr,
			"SPILLWAY_INSTANCE=gateway-0",
			"SPILLWAY_LOG_LEVEL=debug",
			"SPILLWAY_TRACE_RATIO=1",
			"SPILLWAY_CAPACITY_SERVICE_TIME=0s",
			"SPILLWAY_SESSION_TARGET=" + downstream,
			"SPILLWAY_CATALOG_TARGET=" + downstream,
			"SPILLWAY_ORDER_TARGET=" + downstream,
			"SPILLWAY_TICKETING_TARGET=" + downstream,
		}, environ...), g.logs)
	}()
	g.stop = sync.OnceFunc(func() {
		g.http.CloseIdleConnections()
		drain()
		if err := <-ended; err != nil {
			t.Errorf("the gateway ended with %v\n%s", err, g.logs)
		}
	})
	t.Cleanup(g.stop)
	var err error
	if g.conn, err = grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.conn.Close() })
	g.rpc = gatewayv1.NewGatewayServiceClient(g.conn)
	eventually(t, "the gateway serves", func() bool {
		resp, err := g.http.Get(g.base + "/healthz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return g
}

// serve runs a gRPC server until the end of the test and returns its address.
func serve(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(lis); err != nil {
			t.Errorf("stub server: %v", err)
		}
	})
	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})
	return lis.Addr().String()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// metrics is what Prometheus would scrape.
func (g *gateway) metrics(t *testing.T) string {
	t.Helper()
	resp, err := g.http.Get(g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// answer is what came back over HTTP.
type answer struct {
	status int
	header http.Header
	body   string
}

// failure is an error answer's body.
type failure struct {
	Code    int
	Message string
	Details []struct {
		Type     string `json:"@type"`
		Reason   string
		Domain   string
		Metadata map[string]string
	}
}

// do makes an HTTP request. headers are pairs.
func (g *gateway) do(t *testing.T, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := g.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// reason gives the reason, and the field that is to blame, of an error answer; it fails the test for any other shape.
func (a answer) reason(t *testing.T) (reason, field string) {
	t.Helper()
	var f failure
	if err := json.Unmarshal([]byte(a.body), &f); err != nil {
		t.Fatalf("the answer %q is no JSON: %v", a.body, err)
	}
	if a.header.Get("Content-Type") != "application/json" || f.Code == 0 || f.Message == "" {
		t.Errorf("the answer %q (%v) is no google.rpc.Status", a.body, a.header)
	}
	for _, d := range f.Details {
		if d.Type == "type.googleapis.com/google.rpc.ErrorInfo" && d.Domain == "spillway.dev" {
			return d.Reason, d.Metadata["field"]
		}
	}
	t.Errorf("the answer %q has no ErrorInfo", a.body)
	return "", ""
}

// refused checks an error answer.
func (a answer) refused(t *testing.T, status int, reason string) {
	t.Helper()
	if got, _ := a.reason(t); a.status != status || got != reason {
		t.Errorf("got %d %s, want %d %s\n%s", a.status, got, status, reason, a.body)
	}
}

// cookie is the headers of ann's browser.
var cookie = []string{"Cookie", cookieName + "=" + token}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// traces keeps the spans that are exported to it.
type traces struct {
	coltracepb.UnimplementedTraceServiceServer
	mu   sync.Mutex
	got  strings.Builder
	seen map[string]bool // names of spans by hexadecimal trace id + " " + name
}

// collect makes a collector that a gateway started later exports to.
func collect(t *testing.T) *traces {
	t.Helper()
	c := &traces{seen: map[string]bool{}}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+serve(t, func(s *grpc.Server) { coltracepb.RegisterTraceServiceServer(s, c) }))
	return c
}

func (c *traces) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got.WriteString(prototext.Format(req))
	for _, r := range req.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.seen[hexID(span.GetTraceId())+" "+span.GetName()] = true
			}
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (c *traces) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.String()
}

func (c *traces) has(trace, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[trace+" "+name]
}

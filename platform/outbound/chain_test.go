package outbound_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/identity"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// away answers as a service does that cannot reach what it needs, for as many
// calls as it is told.
type away struct {
	sessionv1.UnimplementedSessionServiceServer
	inventoryv1.UnimplementedInventoryServiceServer
	calls    atomic.Int64
	failures int64
	callers  chan []string
}

func (a *away) answer(ctx context.Context) error {
	if a.callers != nil {
		a.callers <- metadata.ValueFromIncomingContext(ctx, identity.Header)
	}
	if a.calls.Add(1) <= a.failures {
		return problem.New(codes.Unavailable, problem.DependencyAway, "Redis does not answer").Retry(time.Millisecond)
	}
	return nil
}

func (a *away) Hold(ctx context.Context, _ *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
	return &inventoryv1.HoldResponse{}, a.answer(ctx)
}

func (a *away) SignIn(ctx context.Context, _ *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
	return &sessionv1.SignInResponse{}, a.answer(ctx)
}

func serve(t *testing.T, a *away, lis net.Listener) {
	t.Helper()
	server := grpc.NewServer()
	sessionv1.RegisterSessionServiceServer(server, a)
	inventoryv1.RegisterInventoryServiceServer(server, a)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(lis) })
	t.Cleanup(func() {
		server.Stop()
		done.Wait()
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// order is a replica of that name.
func order(t *testing.T, set *knobs.Set, reg *prometheus.Registry) outbound.Replica {
	t.Helper()
	refused, err := refusal.New(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return outbound.Replica{Service: "order", Log: slog.New(slog.DiscardHandler), Registry: reg, Knobs: set, Refused: refused}
}

func connect(t *testing.T, addr string) (*grpc.ClientConn, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	chain, err := outbound.New(outbound.Config{Shave: 5 * time.Millisecond, Attempts: 3}, order(t, knobs.NewSet(), reg))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(addr, chain.DialOptions("inventory")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, reg
}

func TestOnlyIdempotentCallsAreRetriedAndAllAreCounted(t *testing.T) {
	a, lis := &away{failures: 2}, listen(t)
	serve(t, a, lis)
	conn, reg := connect(t, lis.Addr().String())
	if _, err := inventoryv1.NewInventoryServiceClient(conn).Hold(t.Context(), &inventoryv1.HoldRequest{}); err != nil || a.calls.Load() != 3 {
		t.Errorf("Hold, which may be sent again, was sent %d times and gave %v", a.calls.Load(), err)
	}
	a.calls.Store(0)
	_, err := sessionv1.NewSessionServiceClient(conn).SignIn(t.Context(), &sessionv1.SignInRequest{})
	if p := problem.From(err); a.calls.Load() != 1 || p.Reason != problem.DependencyAway || !p.Retryable || p.RetryAfter != time.Millisecond {
		t.Errorf("SignIn, which may not, was sent %d times and gave %v", a.calls.Load(), err)
	}
	want := `
# HELP grpc_client_attempts_total Attempts sent for calls; more than the calls begun when some are retried.
# TYPE grpc_client_attempts_total counter
`
	for _, c := range []struct {
		method, service string
		n               int
	}{{"Hold", "spillway.inventory.v1.InventoryService", 3}, {"SignIn", "spillway.session.v1.SessionService", 1}} {
		want += fmt.Sprintf("grpc_client_attempts_total{callee=\"inventory\",caller=\"order\",grpc_method=%q,grpc_service=%q,grpc_type=\"unary\"} %d\n", c.method, c.service, c.n)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "grpc_client_attempts_total"); err != nil {
		t.Error(err)
	}
}

func TestCallsNameTheirCaller(t *testing.T) {
	a, lis := &away{callers: make(chan []string, 1)}, listen(t)
	serve(t, a, lis)
	conn, _ := connect(t, lis.Addr().String())
	client := inventoryv1.NewInventoryServiceClient(conn)
	for name, ctx := range map[string]context.Context{
		"no other metadata": t.Context(),
		"other metadata":    metadata.AppendToOutgoingContext(t.Context(), "k", "v"),
		"a foreign name":    metadata.AppendToOutgoingContext(t.Context(), identity.Header, "bank"),
	} {
		if _, err := client.Hold(ctx, &inventoryv1.HoldRequest{}); err != nil {
			t.Fatal(err)
		}
		if got := <-a.callers; len(got) != 1 || got[0] != "order" {
			t.Errorf("%s: the callee reads %q, want order", name, got)
		}
	}
}

// TestAServerThatStartsLateIsFoundSoon is about the back-off of one second that
// grpc-go begins with: measured from when the server listens.
func TestAServerThatStartsLateIsFoundSoon(t *testing.T) {
	lis := listen(t)
	addr := lis.Addr().String()
	_ = lis.Close()
	conn, _ := connect(t, addr)
	client := inventoryv1.NewInventoryServiceClient(conn)
	if _, err := client.Hold(t.Context(), &inventoryv1.HoldRequest{}); status.Code(err) != codes.Unavailable {
		t.Fatalf("nobody listens, and the call gives %v", err)
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, &away{}, lis)
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := client.Hold(ctx, &inventoryv1.HoldRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 900*time.Millisecond {
		t.Errorf("the server was found after %v; grpc-go's own back-off takes a second", took)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	for _, cfg := range []outbound.Config{{Attempts: 0}, {Attempts: 1, Shave: -1}} {
		if _, err := outbound.New(cfg, order(t, knobs.NewSet(), prometheus.NewRegistry())); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	reg := prometheus.NewRegistry()
	for i := range 2 {
		_, err := outbound.New(outbound.Config{Attempts: 1}, order(t, knobs.NewSet(), reg))
		if again := errors.As(err, &prometheus.AlreadyRegisteredError{}); again != (i == 1) {
			t.Errorf("chain %d on one registry gives %v", i+1, err)
		}
	}
}

package outbound_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/outbound"
	"spillway.dev/platform/outbound/attempt"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// seats is an inventory that answers as it is told.
type seats struct {
	inventoryv1.UnimplementedInventoryServiceServer
	calls  atomic.Int64
	answer func(context.Context) error
}

func (s *seats) GetAvailability(ctx context.Context, _ *inventoryv1.GetAvailabilityRequest) (*inventoryv1.GetAvailabilityResponse, error) {
	s.calls.Add(1)
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return &inventoryv1.GetAvailabilityResponse{Rows: 1}, nil
}

// Ways in which an inventory answers.
func gone(context.Context) error {
	return problem.New(codes.Unavailable, problem.DependencyAway, "Redis does not answer").Retry(0)
}

func full(context.Context) error {
	return refusal.Overloaded("shed", time.Millisecond, "the least urgent are turned away")
}

func silent(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// shows is a catalog that asks an inventory, and words its failures anew, as
// services do.
type shows struct {
	catalogv1.UnimplementedCatalogServiceServer
	down inventoryv1.InventoryServiceClient
}

func (s *shows) GetSeatMap(ctx context.Context, _ *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error) {
	_, err := s.down.GetAvailability(ctx, &inventoryv1.GetAvailabilityRequest{})
	if p := problem.From(err); p != nil {
		return nil, problem.New(p.Code, problem.DependencyAway, "the inventory does not answer").Retry(0).Because(err)
	}
	return &catalogv1.GetSeatMapResponse{}, nil
}

// run serves until the test ends, and gives the address.
func run(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(lis) })
	t.Cleanup(func() {
		server.Stop()
		done.Wait()
	})
	return lis.Addr().String()
}

// hop is the calling side of one service.
type hop struct {
	*grpc.ClientConn
	reg *prometheus.Registry
}

// call connects service to callee with the given knobs.
func call(t *testing.T, service, callee, addr string, values map[string]string) hop {
	t.Helper()
	set, reg := knobs.NewSet(), prometheus.NewPedanticRegistry()
	refused, err := refusal.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	replica := order(t, set, reg)
	replica.Service, replica.Refused = service, refused
	chain, err := outbound.New(outbound.Config{Shave: time.Millisecond, Attempts: 3}, replica)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(addr, chain.DialOptions(callee)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := set.Apply(values); err != nil {
		t.Fatal(err)
	}
	return hop{conn, reg}
}

// total sums a counter over its labels; want are labels that it must have.
func (h hop) total(t *testing.T, name string, want map[string]string) int {
	t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		t.Error(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			fits := 0
			for _, label := range m.GetLabel() {
				if value, asked := want[label.GetName()]; asked && value == label.GetValue() {
					fits++
				}
			}
			if fits == len(want) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}

func (h hop) attempts(t *testing.T) int { return h.total(t, "grpc_client_attempts_total", nil) }

// atOnce makes n calls, 20 at a time.
func atOnce(t *testing.T, n int, do func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	left := make(chan struct{}, n)
	for range n {
		left <- struct{}{}
	}
	close(left)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range left {
				do(ctx)
			}
		})
	}
	all.Wait()
}

// TestRetriesOfTwoLayers is gateway → catalog → inventory, and an inventory that
// never gives a good answer.
func TestRetriesOfTwoLayers(t *testing.T) {
	for name, c := range map[string]struct {
		mode        string
		answer      func(context.Context) error
		calls       int
		least, most int // attempts at inventory
		above       int // attempts at catalog
	}{
		"naive, away":    {"naive", gone, 20, 180, 180, 60},
		"naive, silent":  {"naive", silent, 20, 180, 180, 60},
		"naive, full":    {"naive", full, 20, 180, 180, 60},
		"plain, away":    {"plain", gone, 20, 180, 180, 60},
		"plain, full":    {"plain", full, 20, 20, 20, 20},
		"budget, away":   {"budget", gone, 400, 440, 450, 400},
		"budget, silent": {"budget", silent, 200, 220, 230, 200},
		"budget, full":   {"budget", full, 200, 200, 200, 200},
	} {
		t.Run(name, func(t *testing.T) {
			s := &seats{answer: c.answer}
			low := call(t, "catalog", "inventory", run(t, func(g *grpc.Server) { inventoryv1.RegisterInventoryServiceServer(g, s) }),
				map[string]string{"retry.mode": c.mode, "attempt.timeout": map[bool]string{true: "30ms", false: "0s"}[name == "naive, silent" || name == "budget, silent"]})
			catalog := &shows{down: inventoryv1.NewInventoryServiceClient(low)}
			top := call(t, "gateway", "catalog", run(t, func(g *grpc.Server) { catalogv1.RegisterCatalogServiceServer(g, catalog) }),
				map[string]string{"retry.mode": c.mode})
			client := catalogv1.NewCatalogServiceClient(top)
			atOnce(t, c.calls, func(ctx context.Context) {
				if _, err := client.GetSeatMap(ctx, &catalogv1.GetSeatMapRequest{}); err == nil {
					t.Error("a call succeeds")
				}
			})
			if got := low.attempts(t); got < c.least || got > c.most {
				t.Errorf("%d calls became %d attempts at inventory, want %d to %d", c.calls, got, c.least, c.most)
			}
			if got := top.attempts(t); got != c.above {
				t.Errorf("%d calls became %d attempts at catalog, want %d", c.calls, got, c.above)
			}
		})
	}
}

// TestASilentCalleeIsRetriedByWhoWaitsForIt has a catalog that says nothing, so
// that gateway has to decide, and is the only one who does.
func TestASilentCalleeIsRetriedByWhoWaitsForIt(t *testing.T) {
	s := &seats{}
	var first atomic.Bool
	s.answer = func(ctx context.Context) error {
		if first.CompareAndSwap(false, true) {
			return silent(ctx)
		}
		return gone(ctx)
	}
	low := call(t, "catalog", "inventory", run(t, func(g *grpc.Server) { inventoryv1.RegisterInventoryServiceServer(g, s) }),
		map[string]string{"retry.mode": "budget"})
	catalog := &shows{down: inventoryv1.NewInventoryServiceClient(low)}
	top := call(t, "gateway", "catalog", run(t, func(g *grpc.Server) { catalogv1.RegisterCatalogServiceServer(g, catalog) }),
		map[string]string{"retry.mode": "budget", "attempt.timeout": "300ms"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := catalogv1.NewCatalogServiceClient(top).GetSeatMap(ctx, &catalogv1.GetSeatMapRequest{})
	if err == nil {
		t.Fatal("a call succeeds")
	}
	// Three attempts by gateway; catalog adds none to the two that are retries.
	if up, down := top.attempts(t), low.attempts(t); up != 3 || down != 3 {
		t.Errorf("%d attempts at catalog and %d at inventory, want 3 and 3", up, down)
	}
	if got := top.total(t, "spillway_retries_total", map[string]string{"reason": problem.AttemptTimeout}); got < 1 {
		t.Errorf("%d retries are counted for an attempt that timed out", got)
	}
}

// TestAnOpenBreakerIsNotRetried: calls to an inventory that is away end at the
// breaker, which no retry gets past.
func TestAnOpenBreakerIsNotRetried(t *testing.T) {
	s := &seats{answer: gone}
	h := call(t, "catalog", "inventory", run(t, func(g *grpc.Server) { inventoryv1.RegisterInventoryServiceServer(g, s) }),
		map[string]string{"retry.mode": "budget", "breaker.mode": "on", "breaker.open_for": "10m"})
	client := inventoryv1.NewInventoryServiceClient(h)
	stopped := 0
	for range 200 {
		_, err := client.GetAvailability(t.Context(), &inventoryv1.GetAvailabilityRequest{})
		switch problem.Reason(err) {
		case problem.BreakerOpen:
			stopped++
		case problem.DependencyAway:
		default:
			t.Fatalf("a call ends with %v", err)
		}
	}
	// 20 attempts open it; some of them were retries.
	if sent := s.calls.Load(); sent != 20 || stopped < 180 {
		t.Errorf("%d attempts reached inventory and %d calls were stopped, want 20 and 180 or more", sent, stopped)
	}
	if got := h.total(t, "spillway_retries_total", map[string]string{"reason": problem.BreakerOpen}); got != 0 {
		t.Errorf("%d refusals of the breaker were retried", got)
	}
}

// TestNoAttemptIsMadeForWhichThereIsNoTime: the callee asks for more time than
// the call has, and no token is spent.
func TestNoAttemptIsMadeForWhichThereIsNoTime(t *testing.T) {
	s := &seats{answer: func(context.Context) error {
		return problem.New(codes.Unavailable, problem.NotServingYet, "starting").Retry(time.Hour)
	}}
	h := call(t, "catalog", "inventory", run(t, func(g *grpc.Server) { inventoryv1.RegisterInventoryServiceServer(g, s) }),
		map[string]string{"retry.mode": "budget"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := inventoryv1.NewInventoryServiceClient(h).GetAvailability(ctx, &inventoryv1.GetAvailabilityRequest{})
	if problem.Reason(err) != problem.NotServingYet || s.calls.Load() != 1 {
		t.Errorf("%d attempts, and %v", s.calls.Load(), err)
	}
	if spent := h.total(t, "spillway_retry_budget_spent_total", nil); spent != 0 {
		t.Errorf("%d tokens were spent", spent)
	}
}

// TestHedgesAndBreaker: of two copies the first is slow and is given up, call
// after call, and that says nothing against the callee.
func TestHedgesAndBreaker(t *testing.T) {
	const calls = 60
	s := &seats{answer: func(ctx context.Context) error {
		if attempt.Number(ctx) > 1 {
			return grpc.SetHeader(ctx, metadata.Pairs("copy", "second"))
		}
		return silent(ctx)
	}}
	h := call(t, "catalog", "inventory", run(t, func(g *grpc.Server) { inventoryv1.RegisterInventoryServiceServer(g, s) }),
		map[string]string{"hedge.mode": "on", "hedge.delay": "1ms", "retry.budget_ratio": "1", "breaker.mode": "on", "breaker.slow_call": "10m"})
	client := inventoryv1.NewInventoryServiceClient(h)
	for range calls {
		var header metadata.MD
		reply, err := client.GetAvailability(t.Context(), &inventoryv1.GetAvailabilityRequest{}, grpc.Header(&header))
		if err != nil || reply.GetRows() != 1 || len(header.Get("copy")) != 1 {
			t.Fatalf("the answer is %v with %v, error %v", reply, header, err)
		}
	}
	if won := h.total(t, "spillway_hedges_won_total", nil); won != calls {
		t.Errorf("%d of %d hedges won", won, calls)
	}
}

// TestAHedgeThatIsRefusedChangesNothing: the bulkhead has room for one copy.
func TestAHedgeThatIsRefusedChangesNothing(t *testing.T) {
	tried := make(chan struct{})
	s := &seats{answer: func(ctx context.Context) error {
		select {
		case <-tried:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	h := call(t, "catalog", "inventory", run(t, func(g *grpc.Server) { inventoryv1.RegisterInventoryServiceServer(g, s) }),
		map[string]string{"hedge.mode": "on", "hedge.delay": "1ms", "bulkhead.mode": "on", "bulkhead.inventory.limit": "1"})
	var done sync.WaitGroup
	done.Go(func() { // waits for the refusal, then lets the first copy end
		defer close(tried)
		for t.Context().Err() == nil && h.total(t, "spillway_refused_total", map[string]string{"by": "bulkhead"}) == 0 {
		}
	})
	defer done.Wait()
	if _, err := inventoryv1.NewInventoryServiceClient(h).GetAvailability(t.Context(), &inventoryv1.GetAvailabilityRequest{}); err != nil {
		t.Error(err)
	}
	if sent, reached := h.total(t, "spillway_hedges_sent_total", nil), s.calls.Load(); sent != 1 || reached != 1 {
		t.Errorf("%d hedges and %d calls at inventory, want one of each", sent, reached)
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// stubInventory answers GetAvailability with a function.
type stubInventory struct {
	inventoryv1.UnimplementedInventoryServiceServer
	availability func(context.Context, string) (*inventoryv1.GetAvailabilityResponse, error)
	asked        atomic.Int64
}

func (s *stubInventory) GetAvailability(ctx context.Context, req *inventoryv1.GetAvailabilityRequest) (*inventoryv1.GetAvailabilityResponse, error) {
	s.asked.Add(1)
	return s.availability(ctx, req.GetShowId())
}

// start runs the catalog over the stub. The returned function stops the stub, at the latest at the end of the test.
func start(t *testing.T, stub *stubInventory, environ ...string) (catalogv1.CatalogServiceClient, func()) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	inventoryv1.RegisterInventoryServiceServer(s, stub)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(lis); err != nil {
			t.Errorf("stub: %v", err)
		}
	})
	stop := sync.OnceFunc(func() {
		s.Stop()
		wg.Wait()
	})
	t.Cleanup(stop)
	r := boottest.Start(t, spec(), append([]string{"SPILLWAY_INVENTORY_TARGET=" + lis.Addr().String()}, environ...)...)
	r.WaitServing()
	return catalogv1.NewCatalogServiceClient(r.Conn), stop
}

func wantReason(t *testing.T, err error, code codes.Code, reason string) *problem.Problem {
	t.Helper()
	p := problem.From(err)
	if p == nil || p.Code != code || p.Reason != reason {
		t.Errorf("got %v, want %v %s", err, code, reason)
		return &problem.Problem{}
	}
	return p
}

func TestListShows(t *testing.T) {
	c, stop := start(t, &stubInventory{})
	stop() // the list needs nobody
	resp, err := c.ListShows(t.Context(), &catalogv1.ListShowsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := programme.Default().Shows
	if len(resp.GetShows()) != len(want) {
		t.Fatalf("%d shows, want %d", len(resp.GetShows()), len(want))
	}
	for i, got := range resp.GetShows() {
		w := want[i]
		if got.GetShowId() != w.ID || got.GetTitle() != w.Title || got.GetVenue() != w.Venue || got.GetPriceCents() != w.PriceCents ||
			!got.GetStartsAt().AsTime().Equal(w.StartsAt) || int(got.GetRows()) != w.Rows || int(got.GetSeatsPerRow()) != w.SeatsPerRow {
			t.Errorf("show %d is %v, want %+v", i, got, w)
		}
	}
}

func TestGetSeatMap(t *testing.T) {
	stub := &stubInventory{availability: func(_ context.Context, show string) (*inventoryv1.GetAvailabilityResponse, error) {
		if show != "river-songs" {
			return nil, status.Errorf(codes.Internal, "asked for %q", show)
		}
		return &inventoryv1.GetAvailabilityResponse{Rows: 8, SeatsPerRow: 12, Taken: []byte{0b10100000, 0b00001000}}, nil
	}}
	c, _ := start(t, stub, "SPILLWAY_CATALOG_CACHE_TTL=1m")
	for range 3 {
		m, err := c.GetSeatMap(t.Context(), &catalogv1.GetSeatMapRequest{ShowId: "river-songs"})
		if err != nil {
			t.Fatal(err)
		}
		if m.GetFree() != 8*12-3 || len(m.GetRows()) != 8 || m.GetRows()[0].GetSeats() != "x.x........." || m.GetRows()[1].GetSeats() != "x..........." {
			t.Errorf("the map is %v", m)
		}
	}
	if n := stub.asked.Load(); n != 1 {
		t.Errorf("inventory was asked %d times in a minute", n)
	}
}

// TestErrors is the list of statuses and reasons of GetSeatMap; ListShows has none of its own.
func TestErrors(t *testing.T) {
	stub := &stubInventory{}
	c, stop := start(t, stub, "SPILLWAY_CATALOG_CACHE_TTL=0s", "SPILLWAY_RETRY_ATTEMPTS=1")
	get := func(show string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.GetSeatMap(ctx, &catalogv1.GetSeatMapRequest{ShowId: show})
		return err
	}
	wantReason(t, get("hamlet"), codes.NotFound, problem.ShowUnknown)
	wantReason(t, get(""), codes.InvalidArgument, problem.InvalidArgument)
	wantReason(t, get("NO SUCH"), codes.InvalidArgument, problem.InvalidArgument)
	if n := stub.asked.Load(); n != 0 {
		t.Errorf("inventory was asked %d times for nothing", n)
	}

	answer := func(err error) {
		stub.availability = func(context.Context, string) (*inventoryv1.GetAvailabilityResponse, error) { return nil, err }
	}
	answer(problem.New(codes.Unavailable, problem.DependencyAway, "Redis does not answer").Retry(300 * time.Millisecond))
	if p := wantReason(t, get("the-drop"), codes.Unavailable, problem.DependencyAway); !p.Retryable || p.RetryAfter != 300*time.Millisecond {
		t.Errorf("retryable %v after %v", p.Retryable, p.RetryAfter)
	}
	answer(problem.New(codes.ResourceExhausted, problem.Overloaded, "full").Retry(time.Second))
	if p := wantReason(t, get("the-drop"), codes.ResourceExhausted, problem.Overloaded); !p.Retryable || p.RetryAfter != time.Second {
		t.Errorf("retryable %v after %v", p.Retryable, p.RetryAfter)
	}
	answer(problem.New(codes.NotFound, problem.ShowUnknown, "another programme"))
	wantReason(t, get("the-drop"), codes.NotFound, problem.ShowUnknown)
	answer(errors.New("a secret of inventory"))
	if p := wantReason(t, get("the-drop"), codes.Internal, problem.Internal); strings.Contains(p.Message, "secret") {
		t.Errorf("the message tells %q", p.Message)
	}

	stop()
	p := wantReason(t, get("the-drop"), codes.Unavailable, problem.DependencyAway)
	if !p.Retryable || p.RetryAfter == 0 || p.Metadata["dependency"] != "inventory" || strings.Contains(p.Message, "127.0.0.1") {
		t.Errorf("inventory away: %+v", p)
	}
}

func TestConfiguration(t *testing.T) {
	for env, says := range map[string]string{
		"SPILLWAY_CATALOG_CACHE_TTL=-1s":  "SPILLWAY_CATALOG_CACHE_TTL",
		"SPILLWAY_CATALOG_CACHE_TTL=1h":   "0s to 1m",
		"SPILLWAY_PROGRAMME_FILE=missing": "SPILLWAY_PROGRAMME_FILE",
		"SPILLWAY_REDIS_ADDR=here:6379":   "SPILLWAY_REDIS_ADDR", // the catalog keeps nothing in Redis
	} {
		var stderr bytes.Buffer
		err := boot.Run(t.Context(), spec(), []string{env}, &stderr)
		if _, wrong := errors.AsType[*boot.ConfigError](err); !wrong || !strings.Contains(stderr.String(), says) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: %v, says %q", env, err, &stderr)
		}
	}
}

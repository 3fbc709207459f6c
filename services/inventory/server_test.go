package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
	"spillway.dev/platform/redistest"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// start runs the service with a programme of one new show.
func start(t *testing.T, redisAddr string, environ ...string) (inventoryv1.InventoryServiceClient, programme.Show, *boottest.Replica) {
	t.Helper()
	show := newShow(3, 10)
	file := filepath.Join(t.TempDir(), "programme.json")
	text := fmt.Sprintf(`{"shows": [{"id": %q, "title": "T", "venue": "V", "starts_at": "2031-01-01T20:00:00Z", "price_cents": 1000, "rows": 3, "seats_per_row": 10}]}`, show.ID)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := boottest.Start(t, spec(), append([]string{"SPILLWAY_REDIS_ADDR=" + redisAddr, "SPILLWAY_PROGRAMME_FILE=" + file}, environ...)...)
	r.WaitServing()
	return inventoryv1.NewInventoryServiceClient(r.Conn), show, r
}

func TestRPCs(t *testing.T) {
	c, show, _ := start(t, redisServer.Addr(), "SPILLWAY_INVENTORY_HOLD_TTL=1m", "SPILLWAY_INVENTORY_REAP_EVERY=10ms")
	ctx := t.Context()
	hold := &inventoryv1.HoldRequest{HoldId: "a", ShowId: show.ID, SeatIds: []string{"B-3", "B-4"}}
	before := time.Now()
	first, err := c.Hold(ctx, hold)
	if err != nil {
		t.Fatal(err)
	}
	if d := first.GetExpiresAt().AsTime().Sub(before); d < 59*time.Second || d > 70*time.Second || first.GetAmountCents() != 2000 {
		t.Errorf("hold: %v", first)
	}
	own, err := c.Hold(ctx, &inventoryv1.HoldRequest{HoldId: "b", ShowId: show.ID, SeatIds: []string{"A-1"}, Ttl: durationpb.New(time.Hour)})
	if err != nil || own.GetExpiresAt().AsTime().Sub(before) < 59*time.Minute {
		t.Errorf("hold for an hour: %v, %v", own, err)
	}
	seats, err := c.GetAvailability(ctx, &inventoryv1.GetAvailabilityRequest{ShowId: show.ID})
	if err != nil || seats.GetRows() != 3 || seats.GetSeatsPerRow() != 10 || seatsOf(show, seats.GetTaken()) != "A-1 B-3 B-4" {
		t.Errorf("availability: %v, %v", seats, err)
	}
	if _, err := c.Confirm(ctx, &inventoryv1.ConfirmRequest{ShowId: show.ID, HoldId: "a"}); err != nil {
		t.Error(err)
	}
	if r, err := c.Release(ctx, &inventoryv1.ReleaseRequest{ShowId: show.ID, HoldId: "b"}); err != nil || !r.GetReleased() {
		t.Errorf("release: %v, %v", r, err)
	}
	if r, err := c.Release(ctx, &inventoryv1.ReleaseRequest{ShowId: show.ID, HoldId: "late"}); err != nil || r.GetReleased() {
		t.Errorf("release of nothing: %v, %v", r, err)
	}
}

// TestErrors is the list of statuses and reasons of each RPC.
func TestErrors(t *testing.T) {
	c, show, _ := start(t, redisServer.Addr())
	ctx := t.Context()
	id := show.ID
	hold := func(holdID, showID string, seats ...string) func() error {
		return func() error {
			_, err := c.Hold(ctx, &inventoryv1.HoldRequest{HoldId: holdID, ShowId: showID, SeatIds: seats})
			return err
		}
	}
	confirm := func(holdID, showID string) func() error {
		return func() error {
			_, err := c.Confirm(ctx, &inventoryv1.ConfirmRequest{HoldId: holdID, ShowId: showID})
			return err
		}
	}
	release := func(holdID, showID string) func() error {
		return func() error {
			_, err := c.Release(ctx, &inventoryv1.ReleaseRequest{HoldId: holdID, ShowId: showID})
			return err
		}
	}
	availability := func(showID string) func() error {
		return func() error {
			_, err := c.GetAvailability(ctx, &inventoryv1.GetAvailabilityRequest{ShowId: showID})
			return err
		}
	}
	for _, f := range []func() error{hold("mine", id, "A-1"), hold("over", id, "A-2"), hold("gone", id, "A-3"), release("gone", id)} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	overdue(t, testStore(t, redisServer.Addr()), show, "over")

	for _, x := range []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
	}{
		{"availability: no such show", availability("hamlet"), codes.NotFound, problem.ShowUnknown},
		{"availability: no show id", availability(""), codes.InvalidArgument, problem.InvalidArgument},
		{"availability: a show id that ends a Redis key", availability("a}b"), codes.InvalidArgument, problem.InvalidArgument},

		{"hold: no such show", hold("x", "hamlet", "A-1"), codes.NotFound, problem.ShowUnknown},
		{"hold: no such row", hold("x", id, "D-1"), codes.NotFound, reasonSeatUnknown},
		{"hold: no such seat", hold("x", id, "A-4", "A-11"), codes.NotFound, reasonSeatUnknown},
		{"hold: taken", hold("x", id, "A-1", "A-4"), codes.FailedPrecondition, reasonSeatTaken},
		{"hold: other seats", hold("mine", id, "A-4"), codes.FailedPrecondition, problem.IdempotencyKeyReused},
		{"hold: expired", hold("over", id, "A-2"), codes.FailedPrecondition, reasonHoldExpired},
		{"hold: released", hold("gone", id, "A-3"), codes.FailedPrecondition, reasonHoldReleased},
		{"hold: no seats", hold("x", id), codes.InvalidArgument, problem.InvalidArgument},
		{"hold: a seat twice", hold("x", id, "A-4", "A-4"), codes.InvalidArgument, problem.InvalidArgument},
		{"hold: too many seats", hold("x", id, "A-1", "A-2", "A-3", "A-4", "A-5", "A-6", "A-7", "A-8", "A-9"), codes.InvalidArgument, problem.InvalidArgument},
		{"hold: a negative seat", hold("x", id, "A--1"), codes.InvalidArgument, problem.InvalidArgument},
		{"hold: no name", hold("", id, "A-4"), codes.InvalidArgument, problem.InvalidArgument},
		{"hold: a name with a line break", hold("x\n", id, "A-4"), codes.InvalidArgument, problem.InvalidArgument},
		{"hold: for no time", func() error {
			_, err := c.Hold(ctx, &inventoryv1.HoldRequest{HoldId: "x", ShowId: id, SeatIds: []string{"A-4"}, Ttl: durationpb.New(-time.Second)})
			return err
		}, codes.InvalidArgument, problem.InvalidArgument},
		{"hold: for ever", func() error {
			_, err := c.Hold(ctx, &inventoryv1.HoldRequest{HoldId: "x", ShowId: id, SeatIds: []string{"A-4"}, Ttl: durationpb.New(2 * time.Hour)})
			return err
		}, codes.InvalidArgument, problem.InvalidArgument},

		{"confirm: no such show", confirm("mine", "hamlet"), codes.NotFound, problem.ShowUnknown},
		{"confirm: no such hold", confirm("x", id), codes.NotFound, reasonHoldUnknown},
		{"confirm: expired", confirm("over", id), codes.FailedPrecondition, reasonHoldExpired},
		{"confirm: released", confirm("gone", id), codes.FailedPrecondition, reasonHoldReleased},
		{"confirm: no name", confirm("", id), codes.InvalidArgument, problem.InvalidArgument},

		{"release: no such show", release("mine", "hamlet"), codes.NotFound, problem.ShowUnknown},
		{"release: no name", release("", id), codes.InvalidArgument, problem.InvalidArgument},
	} {
		t.Run(x.name, func(t *testing.T) { wantReason(t, x.call(), x.code, x.reason) })
	}
	if err := hold("x", id, "A-4", "A-2", "A-3")(); err != nil {
		t.Errorf("what was refused took something: %v", err)
	}
}

func TestFiftyCallersWantOneSeat(t *testing.T) {
	c, show, _ := start(t, redisServer.Addr())
	var won, lost atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := patiently(func() error {
				_, err := c.Hold(t.Context(), &inventoryv1.HoldRequest{HoldId: fmt.Sprint("h", i), ShowId: show.ID, SeatIds: []string{"C-10"}})
				return err
			})
			switch {
			case err == nil:
				won.Add(1)
			case problem.Reason(err) == reasonSeatTaken:
				lost.Add(1)
			default:
				t.Errorf("hold %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 49 {
		t.Errorf("%d got the seat, %d did not", won.Load(), lost.Load())
	}
}

func TestRedisAwayOverRPC(t *testing.T) {
	own, err := redistest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	})
	c, show, _ := start(t, own.Addr())
	hold := func(ctx context.Context, id string) error {
		_, err := c.Hold(ctx, &inventoryv1.HoldRequest{HoldId: id, ShowId: show.ID, SeatIds: []string{"A-1"}})
		return err
	}
	if err := hold(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	away := func(state string) {
		took := time.Hour
		for range 3 { // the best of three: a busy machine may hold one of them up
			start := time.Now()
			wantReason(t, hold(t.Context(), "a"), codes.Unavailable, problem.DependencyAway)
			if took = min(took, time.Since(start)); took <= 250*time.Millisecond {
				break
			}
		}
		if took > 250*time.Millisecond {
			t.Errorf("with Redis %s the answer took %v", state, took)
		}
	}
	if err := own.Pause(); err != nil {
		t.Fatal(err)
	}
	away("hanging")
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	away("gone")
	if err := own.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "holds work again", func(ctx context.Context) bool { return hold(ctx, "b") == nil })
}

func TestRedisAwayAtStart(t *testing.T) {
	own, err := redistest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	c, show, _ := start(t, own.Addr(), "SPILLWAY_START_TIMEOUT=100ms") // serves without it
	get := func(ctx context.Context) error {
		_, err := c.GetAvailability(ctx, &inventoryv1.GetAvailabilityRequest{ShowId: show.ID})
		return err
	}
	wantReason(t, get(t.Context()), codes.Unavailable, problem.DependencyAway)
	if err := own.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "it works", func(ctx context.Context) bool { return get(ctx) == nil })
}

func TestConfiguration(t *testing.T) {
	for env, says := range map[string]string{
		"SPILLWAY_INVENTORY_HOLD_TTL=0s":    "SPILLWAY_INVENTORY_HOLD_TTL",
		"SPILLWAY_INVENTORY_HOLD_TTL=61m":   "1ms to 1h",
		"SPILLWAY_INVENTORY_REAP_EVERY=-1s": "SPILLWAY_INVENTORY_REAP_EVERY",
		"SPILLWAY_REDIS_ADDR=redis":         "SPILLWAY_REDIS_ADDR",
		"SPILLWAY_PROGRAMME_FILE=missing":   "SPILLWAY_PROGRAMME_FILE",
	} {
		var stderr bytes.Buffer
		err := boot.Run(t.Context(), spec(), []string{env, "SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0"}, &stderr)
		if _, wrong := errors.AsType[*boot.ConfigError](err); !wrong || !strings.Contains(stderr.String(), says) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: %v, says %q", env, err, &stderr)
		}
	}
}

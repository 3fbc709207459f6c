package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
	"spillway.dev/platform/redistest"
)

func TestLifeOfAHold(t *testing.T) {
	t.Run("redis-server", func(t *testing.T) { lifeOfAHold(t, redisServer.Addr()) })
	// What the local engine falls back to where there is no redis-server.
	t.Run("miniredis", func(t *testing.T) { lifeOfAHold(t, miniredis.RunT(t).Addr()) })
}

func lifeOfAHold(t *testing.T, addr string) {
	s, show, ctx := testStore(t, addr), newShow(3, 10), t.Context()
	if got := takenSeats(t, s, show); got != "" {
		t.Errorf("taken at first: %s", got)
	}

	before := time.Now()
	first, err := s.hold(ctx, show, "a", []string{"B-3", "A-1"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if first.amountCents != 2000 {
		t.Errorf("two seats at 1000 cost %d", first.amountCents)
	}
	if d := first.expiresAt.Sub(before); d < 59*time.Second || d > 61*time.Second {
		t.Errorf("a hold for a minute lasts %v", d)
	}
	if got := takenSeats(t, s, show); got != "A-1 B-3" {
		t.Errorf("taken: %s", got)
	}

	// The same again, whatever time it asks for and in whatever order, is answered as before.
	again, err := s.hold(ctx, show, "a", []string{"A-1", "B-3"}, time.Hour)
	if err != nil || again != first {
		t.Errorf("the second answer is %+v, %v, the first was %+v", again, err, first)
	}
	_, err = s.hold(ctx, show, "a", []string{"A-1", "B-4"}, time.Minute)
	wantReason(t, err, codes.FailedPrecondition, problem.IdempotencyKeyReused)

	// All or none.
	_, err = s.hold(ctx, show, "b", []string{"C-1", "B-3"}, time.Minute)
	if p := wantReason(t, err, codes.FailedPrecondition, reasonSeatTaken); p.Metadata["seat_ids"] != "B-3" {
		t.Errorf("metadata %v, want the taken seat", p.Metadata)
	}
	if got := takenSeats(t, s, show); got != "A-1 B-3" {
		t.Errorf("taken after a refused hold: %s", got)
	}

	for range 2 {
		if err := s.confirm(ctx, show, "a"); err != nil {
			t.Errorf("confirm: %v", err)
		}
	}
	if again, err := s.hold(ctx, show, "a", []string{"A-1", "B-3"}, time.Minute); err != nil || again != first {
		t.Errorf("a hold that was sold meanwhile answers %+v, %v", again, err)
	}
	if got := s.rdb.HGetAll(ctx, keyspace.InventoryHold(show.ID, "a")).Val(); got[keyspace.HoldState] != keyspace.HoldConfirmed ||
		got[keyspace.HoldSeats] != "0,12" || got[keyspace.HoldAmount] != "2000" {
		t.Errorf("the audit reads %v", got)
	}
	if ttl := s.rdb.TTL(ctx, keyspace.InventoryHold(show.ID, "a")).Val(); ttl >= 0 {
		t.Errorf("the record of a sale goes away in %v", ttl)
	}
	if n := s.rdb.ZCard(ctx, keyspace.InventoryExpiring(show.ID)).Val(); n != 0 {
		t.Errorf("%d holds can still expire", n)
	}

	// A refund gives the seats back, once.
	for _, want := range []bool{true, false} {
		if got, err := s.release(ctx, show, "a"); got != want || err != nil {
			t.Errorf("release = %v, %v, want %v", got, err, want)
		}
	}
	if got := takenSeats(t, s, show); got != "" {
		t.Errorf("taken after release: %s", got)
	}
	wantReason(t, s.confirm(ctx, show, "a"), codes.FailedPrecondition, reasonHoldReleased)
	_, err = s.hold(ctx, show, "a", []string{"A-1", "B-3"}, time.Minute)
	wantReason(t, err, codes.FailedPrecondition, reasonHoldReleased)
	if ttl := s.rdb.TTL(ctx, keyspace.InventoryHold(show.ID, "a")).Val(); ttl <= 23*time.Hour || ttl > 24*time.Hour {
		t.Errorf("the record of a released hold stays for %v", ttl)
	}

	// A release that comes before its hold.
	if got, err := s.release(ctx, show, "late"); got || err != nil {
		t.Errorf("release of nothing = %v, %v", got, err)
	}
	_, err = s.hold(ctx, show, "late", []string{"C-10"}, time.Minute)
	wantReason(t, err, codes.FailedPrecondition, reasonHoldReleased)
	wantReason(t, s.confirm(ctx, show, "late"), codes.FailedPrecondition, reasonHoldReleased)
	if got := takenSeats(t, s, show); got != "" {
		t.Errorf("a late hold took %s", got)
	}

	wantReason(t, s.confirm(ctx, show, "never"), codes.NotFound, reasonHoldUnknown)
	for _, seat := range []string{"D-1", "A-11", "AA-1"} {
		_, err = s.hold(ctx, show, "c", []string{"C-1", seat}, time.Minute)
		if p := wantReason(t, err, codes.NotFound, reasonSeatUnknown); p.Metadata["seat_id"] != seat {
			t.Errorf("metadata %v, want %s", p.Metadata, seat)
		}
	}
	if got := takenSeats(t, s, show); got != "" {
		t.Errorf("taken: %s", got)
	}
}

func TestHoldsExpireByThemselves(t *testing.T) {
	s, show, ctx := testStore(t, redisServer.Addr()), newShow(1, 8), t.Context()
	first, err := s.hold(ctx, show, "a", []string{"A-1", "A-2"}, 150*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.hold(ctx, show, "sold", []string{"A-8"}, 150*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := s.confirm(ctx, show, "sold"); err != nil {
		t.Fatal(err)
	}
	until(t, "another gets the seat", func(ctx context.Context) bool {
		_, err := s.hold(ctx, show, "b", []string{"A-2"}, time.Minute)
		if early := time.Now().Before(first.expiresAt); err == nil && early {
			t.Error("a seat was given away before its time")
		}
		if err != nil {
			wantReason(t, err, codes.FailedPrecondition, reasonSeatTaken)
		}
		return err == nil
	})
	if got := takenSeats(t, s, show); got != "A-2 A-8" {
		t.Errorf("taken: %s; a sale must not expire", got)
	}
	wantReason(t, s.confirm(ctx, show, "a"), codes.FailedPrecondition, reasonHoldExpired)
	_, err = s.hold(ctx, show, "a", []string{"A-1", "A-2"}, time.Minute)
	wantReason(t, err, codes.FailedPrecondition, reasonHoldExpired)
	if got, err := s.release(ctx, show, "a"); got || err != nil {
		t.Errorf("release of an expired hold = %v, %v", got, err)
	}
	if got := takenSeats(t, s, show); got != "A-2 A-8" {
		t.Errorf("taken: %s; what became of an expired hold must not touch its next holder", got)
	}
	if n := testutil.ToFloat64(s.expired); n != 1 {
		t.Errorf("%v holds are counted as expired", n)
	}
}

// With more overdue holds than one script reaps, a hold that is over is over all the same.
func TestAnOverdueHoldBehindManyOthers(t *testing.T) {
	s, show, ctx := testStore(t, redisServer.Addr()), newShow(5, 100), t.Context()
	const many = 2*reapBatch + 50
	for i := range many {
		id := fmt.Sprintf("h%03d", i)
		if _, err := s.hold(ctx, show, id, []string{show.SeatID(i)}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		overdue(t, s, show, fmt.Sprintf("h%03d", i))
	}
	wantReason(t, s.confirm(ctx, show, fmt.Sprintf("h%03d", many-1)), codes.FailedPrecondition, reasonHoldExpired)
	_, err := s.hold(ctx, show, fmt.Sprintf("h%03d", many-2), []string{show.SeatID(many - 2)}, time.Minute)
	wantReason(t, err, codes.FailedPrecondition, reasonHoldExpired)
	if got := takenSeats(t, s, show); got != "" {
		t.Errorf("after three calls are taken: %s", got)
	}
}

func TestFiftyWantOneSeat(t *testing.T) {
	s, show := testStore(t, redisServer.Addr()), newShow(1, 1)
	var won, lost atomic.Int64
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range 50 {
		wg.Go(func() {
			<-begin
			_, err := patiently(func() error {
				_, err := s.hold(t.Context(), show, fmt.Sprint("h", i), []string{"A-1"}, time.Minute)
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
	close(begin)
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 49 {
		t.Errorf("%d got the seat, %d did not", won.Load(), lost.Load())
	}
}

func TestTheReaperLooksAfterShowsNobodyAsksAbout(t *testing.T) {
	s := testStore(t, redisServer.Addr())
	quiet := newShow(1, 4)
	if _, err := s.hold(t.Context(), quiet, "a", []string{"A-1"}, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- reaper{store: s, shows: programme.Programme{Shows: []programme.Show{quiet}}, every: 10 * time.Millisecond}.run(ctx)
	}()
	// Read the bitmap itself: the service's own way to it would reap.
	until(t, "the seat is free", func(ctx context.Context) bool {
		return s.rdb.GetBit(ctx, keyspace.InventoryTaken(quiet.ID), 0).Val() == 0
	})
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the reaper ended with %v", err)
	}
	if state := s.rdb.HGet(t.Context(), keyspace.InventoryHold(quiet.ID, "a"), keyspace.HoldState).Val(); state != keyspace.HoldExpired {
		t.Errorf("the hold is %s", state)
	}
}

func TestRedisAway(t *testing.T) {
	own, err := redistest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	})
	s, show, ctx := testStore(t, own.Addr()), newShow(1, 4), t.Context()
	calls := map[string]func() error{
		"taken":   func() error { _, err := s.taken(ctx, show); return err },
		"hold":    func() error { _, err := s.hold(ctx, show, "a", []string{"A-1"}, time.Minute); return err },
		"confirm": func() error { return s.confirm(ctx, show, "a") },
		"release": func() error { _, err := s.release(ctx, show, "a"); return err },
		"reap":    func() error { _, err := s.reap(ctx, show); return err },
	}
	check := func(state string) {
		for name, call := range calls {
			took := time.Hour
			for range 3 { // the best of three: a busy machine may hold one of them up
				start := time.Now()
				wantReason(t, call(), codes.Unavailable, problem.DependencyAway)
				if took = min(took, time.Since(start)); took <= 250*time.Millisecond {
					break
				}
			}
			if took > 250*time.Millisecond {
				t.Errorf("%s with Redis %s took %v", name, state, took)
			}
		}
	}
	if err := own.Pause(); err != nil {
		t.Fatal(err)
	}
	check("hanging")
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	check("gone")
	if err := own.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "holds work again", func(ctx context.Context) bool {
		_, err := s.hold(ctx, show, "b", []string{"A-1"}, time.Minute)
		return err == nil
	})
}

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
	"spillway.dev/platform/rediscall"
	"spillway.dev/platform/redistest"
)

// redisServer is the Redis that all tests share, each with shows of its own. It is set once, before any test.
var redisServer *redistest.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		s, err := redistest.Start()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		redisServer = s
		code := m.Run()
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		return code
	}())
}

var shows atomic.Int64

// newShow is a show that no other test and no other run of this test knows.
func newShow(rows, perRow int) programme.Show {
	return programme.Show{
		ID: fmt.Sprintf("show-%d", shows.Add(1)), Title: "Test", Venue: "Here",
		StartsAt: time.Date(2031, 1, 1, 20, 0, 0, 0, time.UTC), PriceCents: 1000, Rows: rows, SeatsPerRow: perRow,
	}
}

func testStore(t *testing.T, addr string) *store {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, PoolSize: 32,
		// The bound is rediscall's; these would only cut a busy machine's first connections short.
		DialTimeout: rediscall.Bound, ReadTimeout: rediscall.Bound, WriteTimeout: rediscall.Bound, PoolTimeout: rediscall.Bound,
	})
	t.Cleanup(func() {
		if err := rdb.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := newStore(rdb, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// wantReason checks an error's code, reason and retryability.
func wantReason(t *testing.T, err error, code codes.Code, reason string) *problem.Problem {
	t.Helper()
	p := problem.From(err)
	if p == nil || p.Code != code || p.Reason != reason || p.Retryable != (code == codes.Unavailable) {
		t.Errorf("got %v, want %v %s", err, code, reason)
		return problem.New(codes.Unknown, "", "")
	}
	return p
}

// takenSeats gives the ids of the taken seats, space-separated.
func takenSeats(t *testing.T, s *store, show programme.Show) string {
	t.Helper()
	var bitmap []byte
	if _, err := patiently(func() (err error) { bitmap, err = s.taken(t.Context(), show); return err }); err != nil {
		t.Fatal(err)
	}
	return seatsOf(show, bitmap)
}

func seatsOf(show programme.Show, bitmap []byte) string {
	var ids []string
	for i := range len(bitmap) * 8 {
		if bitmap[i/8]>>(7-i%8)&1 == 1 {
			ids = append(ids, show.SeatID(i))
		}
	}
	return strings.Join(ids, " ")
}

// overdue makes a hold one whose time is over, as waiting would.
func overdue(t *testing.T, s *store, show programme.Show, id string) {
	t.Helper()
	if err := s.rdb.HSet(t.Context(), keyspace.InventoryHold(show.ID, id), keyspace.HoldExpires, 1).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.rdb.ZAddXX(t.Context(), keyspace.InventoryExpiring(show.ID), redis.Z{Score: 1, Member: id}).Err(); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, holds func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !holds(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// patiently tries again what a busy machine did not get done in time, as callers do with idempotent requests, and tells
// whether it had to.
func patiently(call func() error) (again bool, err error) {
	for range 100 {
		if err = call(); problem.Reason(err) != problem.DependencyAway {
			break
		}
		again = true
	}
	return again, err
}

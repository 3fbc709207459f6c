package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/outbound/attempt"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// slow is an inventory that takes its time and counts what it is asked.
type slow struct {
	takes time.Duration
	asked atomic.Int64
	err   error
}

func (s *slow) fetch(ctx context.Context, _ string) (*inventoryv1.GetAvailabilityResponse, error) {
	s.asked.Add(1)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.takes):
	}
	if s.err != nil {
		return nil, s.err
	}
	return &inventoryv1.GetAvailabilityResponse{Rows: 1, SeatsPerRow: 8}, nil
}

func newMaps(t *testing.T, ttl time.Duration, s *slow) *seatMaps {
	t.Helper()
	m, err := newSeatMaps(ttl, s.fetch, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAMapIsKeptForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inventory := &slow{takes: 50 * time.Millisecond}
		m := newMaps(t, 200*time.Millisecond, inventory)
		get := func(show string, asked int64) {
			t.Helper()
			if _, err := m.get(t.Context(), show); err != nil {
				t.Fatal(err)
			}
			if n := inventory.asked.Load(); n != asked {
				t.Errorf("inventory was asked %d times, want %d", n, asked)
			}
		}
		get("a", 1)
		get("a", 1)
		get("b", 2) // another show
		time.Sleep(99 * time.Millisecond)
		get("a", 2) // 50 + 50 + 99 ms after the question
		time.Sleep(time.Millisecond)
		get("a", 3) // its age counts from the question, not from the answer
		if hits, misses := testutil.ToFloat64(m.hits), testutil.ToFloat64(m.misses); hits != 2 || misses != 3 {
			t.Errorf("%v hits and %v misses, want 2 and 3", hits, misses)
		}
	})
}

func TestACrowdAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inventory := &slow{takes: 50 * time.Millisecond}
		m := newMaps(t, 200*time.Millisecond, inventory)
		for range 100 {
			go func() {
				if _, err := m.get(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := inventory.asked.Load(); n != 1 {
			t.Errorf("a crowd asked %d times", n)
		}
		if misses, joined := testutil.ToFloat64(m.misses), testutil.ToFloat64(m.joined); misses != 1 || joined != 99 {
			t.Errorf("%v misses and %v joined, want 1 and 99", misses, joined)
		}
	})
}

func TestWhoGivesUpSpoilsNothingForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMaps(t, 200*time.Millisecond, &slow{takes: 50 * time.Millisecond})
		first := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			_, err := m.get(ctx, "a")
			first <- err
		}()
		synctest.Wait()
		begin := time.Now()
		if _, err := m.get(t.Context(), "a"); err != nil {
			t.Errorf("who waits on gets %v", err)
		}
		if took := time.Since(begin); took != 50*time.Millisecond {
			t.Errorf("took %v, want what was left of the question under way", took)
		}
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gave up gets %v", err)
		}
	})
}

func TestErrorsAreNotKeptAndAQuestionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inventory := &slow{err: errors.New("away")}
		m := newMaps(t, time.Minute, inventory)
		for want := range int64(3) {
			if _, err := m.get(t.Context(), "a"); !errors.Is(err, inventory.err) || inventory.asked.Load() != want+1 {
				t.Errorf("after %d questions: %v", inventory.asked.Load(), err)
			}
		}
		inventory.err, inventory.takes = nil, time.Hour
		begin := time.Now()
		if _, err := m.get(t.Context(), "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an inventory that hangs: %v", err)
		}
		if took := time.Since(begin); took != fetchTimeout {
			t.Errorf("gave up after %v, want %v", took, fetchTimeout)
		}
	})
}

// stream is that of a request, of which only the trailer is looked at.
type stream struct{ trailer metadata.MD }

func (*stream) Method() string               { return "" }
func (*stream) SetHeader(metadata.MD) error  { return nil }
func (*stream) SendHeader(metadata.MD) error { return nil }

func (s *stream) SetTrailer(md metadata.MD) error {
	s.trailer = metadata.Join(s.trailer, md)
	return nil
}

// TestAllWhoWaitAreToldOfRetries: a question fails after its retries were decided
// on. Each who waits is told, lest his caller sends it once more.
func TestAllWhoWaitAreToldOfRetries(t *testing.T) {
	for _, decided := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m, err := newSeatMaps(0, func(ctx context.Context, _ string) (*inventoryv1.GetAvailabilityResponse, error) {
				time.Sleep(50 * time.Millisecond) // virtual: until the others have joined
				if decided {
					attempt.Decide(ctx)
				}
				return nil, errors.New("away")
			}, prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			var streams [3]stream
			for i := range streams {
				go func() {
					if _, err := m.get(grpc.NewContextWithServerTransportStream(t.Context(), &streams[i]), "a"); err == nil {
						t.Error("it does not fail")
					}
				}()
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if joined := testutil.ToFloat64(m.joined); joined != 2 {
				t.Errorf("%v joined, want 2", joined)
			}
			for i := range streams {
				if told := attempt.Decided(streams[i].trailer); told != decided {
					t.Errorf("retries were decided on: %v; number %d is told: %v", decided, i, told)
				}
			}
		})
	}
}

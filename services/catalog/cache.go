package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"spillway.dev/platform/outbound/attempt"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// fetchTimeout bounds a question to inventory that several calls wait for, so it is nobody's own deadline.
const fetchTimeout = 2 * time.Second

// seatMaps is a cache of seat maps: at most one per show, none older than ttl, and at most one question to inventory under
// way per show. It is safe for concurrent use. What it gives out is shared and must not be changed.
type seatMaps struct {
	ttl   time.Duration
	fetch func(ctx context.Context, showID string) (*inventoryv1.GetAvailabilityResponse, error)
	calls singleflight.Group

	mu     sync.Mutex
	cached map[string]cachedMap // grows to the number of shows that callers may name

	hits, misses, joined prometheus.Counter
}

type cachedMap struct {
	seats *catalogv1.GetSeatMapResponse
	asked time.Time
}

func newSeatMaps(ttl time.Duration, fetch func(context.Context, string) (*inventoryv1.GetAvailabilityResponse, error), reg prometheus.Registerer) (*seatMaps, error) {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_catalog_seat_map_lookups_total",
		Help: "Seat maps asked for, by outcome: hit (from the cache), miss (inventory was asked), joined (waited for a question under way).",
	}, []string{"outcome"})
	if err := reg.Register(lookups); err != nil {
		return nil, fmt.Errorf("catalog metrics: %w", err)
	}
	return &seatMaps{
		ttl: ttl, fetch: fetch, cached: map[string]cachedMap{},
		hits: lookups.WithLabelValues("hit"), misses: lookups.WithLabelValues("miss"), joined: lookups.WithLabelValues("joined"),
	}, nil
}

// get gives the seat map of a show that the programme names. The question to inventory belongs to all who wait for it: it
// goes on when the one who began it gives up, and each waits no longer than its own context.
func (m *seatMaps) get(ctx context.Context, showID string) (*catalogv1.GetSeatMapResponse, error) {
	if seats, ok := m.fresh(showID); ok {
		m.hits.Inc()
		return seats, nil
	}
	began := false
	answer := m.calls.DoChan(showID, func() (any, error) {
		began = true
		m.misses.Inc()
		ctx, retries := attempt.Share(context.WithoutCancel(ctx))
		seats, err := m.ask(ctx, showID)
		return answered{seats, retries}, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-answer:
		if !began {
			m.joined.Inc()
		}
		got := r.Val.(answered)
		if r.Err != nil {
			got.retries.Tell(ctx) // whoever waited, not only who began it
			return nil, r.Err
		}
		return got.seats, nil
	}
}

// answered is what came of a question to inventory.
type answered struct {
	seats   *catalogv1.GetSeatMapResponse
	retries *attempt.Shared
}

func (m *seatMaps) fresh(showID string) (*catalogv1.GetSeatMapResponse, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.cached[showID]
	if !ok || time.Since(c.asked) >= m.ttl {
		return nil, false
	}
	return c.seats, true
}

// ask fetches a seat map and keeps it. Its age counts from the question: the answer may have been true only then.
func (m *seatMaps) ask(ctx context.Context, showID string) (*catalogv1.GetSeatMapResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	asked := time.Now()
	taken, err := m.fetch(ctx, showID)
	if err != nil {
		return nil, err
	}
	seats, err := seatMap(showID, taken)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cached[showID] = cachedMap{seats: seats, asked: asked}
	return seats, nil
}

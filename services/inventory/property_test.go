package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
)

// model is what a store with one client should do, without Redis.
type model struct {
	taken map[string]bool
	holds map[string]*modelHold
}

type modelHold struct {
	state string // as in keyspace
	seats []string
	over  bool // its time
}

// reap is what every operation does first.
func (m *model) reap() {
	for _, h := range m.holds {
		if h.state == keyspace.HoldHeld && h.over {
			m.finish(h, keyspace.HoldExpired)
		}
	}
}

func (m *model) finish(h *modelHold, state string) {
	for _, seat := range h.seats {
		delete(m.taken, seat)
	}
	h.state = state
}

// hold, confirm and release give the reason that is expected, "" for none.
func (m *model) hold(id string, seats []string) string {
	m.reap()
	if h := m.holds[id]; h != nil {
		switch {
		case h.seats != nil && !slices.Equal(h.seats, seats):
			return problem.IdempotencyKeyReused
		case h.state == keyspace.HoldExpired:
			return reasonHoldExpired
		case h.state == keyspace.HoldReleased:
			return reasonHoldReleased
		}
		return ""
	}
	for _, seat := range seats {
		if m.taken[seat] {
			return reasonSeatTaken
		}
	}
	for _, seat := range seats {
		m.taken[seat] = true
	}
	m.holds[id] = &modelHold{state: keyspace.HoldHeld, seats: seats}
	return ""
}

func (m *model) confirm(id string) string {
	m.reap()
	h := m.holds[id]
	switch {
	case h == nil:
		return reasonHoldUnknown
	case h.state == keyspace.HoldExpired:
		return reasonHoldExpired
	case h.state == keyspace.HoldReleased:
		return reasonHoldReleased
	}
	h.state = keyspace.HoldConfirmed
	return ""
}

func (m *model) release(id string) bool {
	m.reap()
	h := m.holds[id]
	if h == nil {
		m.holds[id] = &modelHold{state: keyspace.HoldReleased}
		return false
	}
	if h.state != keyspace.HoldHeld && h.state != keyspace.HoldConfirmed {
		return false
	}
	m.finish(h, keyspace.HoldReleased)
	return true
}

// One client, any order of operations: the store does what the model does, answer by answer.
func TestTheStoreDoesWhatTheModelDoes(t *testing.T) {
	s := testStore(t, redisServer.Addr())
	for range 5 {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			show, ctx := newShow(2, 4), t.Context()
			m := model{taken: map[string]bool{}, holds: map[string]*modelHold{}}
			for step := range 400 {
				id := fmt.Sprint("h", step/8+rng.IntN(4)) // ids wander, so that finished ones are met and left
				switch rng.IntN(6) {
				case 0, 1, 2:
					seats := someSeats(rng, show)
					_, err := patiently(func() error { _, err := s.hold(ctx, show, id, seats, time.Hour); return err })
					if want := m.hold(id, seats); problem.Reason(err) != want {
						t.Fatalf("step %d: hold %s %v: %v, want %q", step, id, seats, err, want)
					}
				case 3:
					_, err := patiently(func() error { return s.confirm(ctx, show, id) })
					if want := m.confirm(id); problem.Reason(err) != want {
						t.Fatalf("step %d: confirm %s: %v, want %q", step, id, err, want)
					}
				case 4:
					var got bool
					again, err := patiently(func() (err error) { got, err = s.release(ctx, show, id); return err })
					if want := m.release(id); got != want && !again || err != nil {
						t.Fatalf("step %d: release %s = %v, %v, want %v", step, id, got, err, want)
					}
				case 5:
					if h := m.holds[id]; h != nil && h.state == keyspace.HoldHeld {
						overdue(t, s, show, id)
						h.over = true
					}
				}
				m.reap()
				var want []string
				for i := range show.Seats() {
					if seat := show.SeatID(i); m.taken[seat] {
						want = append(want, seat)
					}
				}
				if got := takenSeats(t, s, show); got != strings.Join(want, " ") {
					t.Fatalf("step %d: taken are %s, want %v", step, got, want)
				}
			}
		})
	}
}

func someSeats(rng *rand.Rand, show programme.Show) []string {
	indices := rng.Perm(show.Seats())[:1+rng.IntN(3)]
	slices.Sort(indices)
	seats := make([]string, len(indices))
	for i, index := range indices {
		seats[i] = show.SeatID(index)
	}
	return seats
}

// possession is a time in which a client was sure to have a seat: it begins when the client knew that it had it, and ends
// when it asked to give it back, or at the hold's expiry. Redis and the test read the same machine's clock.
type possession struct {
	hold       string
	start, end time.Time
}

// Many clients, real expiry: no seat is ever had by two at once.
func TestASeatNeverHasTwoHolders(t *testing.T) {
	s, show, ctx := testStore(t, redisServer.Addr()), newShow(2, 6), t.Context()
	const clients, turns = 12, 80
	var mu sync.Mutex
	had := map[string][]possession{}
	var wg sync.WaitGroup
	for client := range clients {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
		wg.Go(func() {
			for turn := range turns {
				id := fmt.Sprintf("c%d-%d", client, turn)
				seats := someSeats(rng, show)
				p, ok := oneTurn(ctx, t, s, show, rng, id, seats)
				if !ok {
					continue
				}
				p.hold = id
				mu.Lock()
				for _, seat := range seats {
					had[seat] = append(had[seat], p)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	count := 0
	for seat, list := range had {
		slices.SortFunc(list, func(a, b possession) int { return a.start.Compare(b.start) })
		for i := 1; i < len(list); i++ {
			if list[i].start.Before(list[i-1].end) {
				t.Errorf("seat %s: %+v and %+v", seat, list[i-1], list[i])
			}
			list[i].end = maxTime(list[i].end, list[i-1].end)
		}
		count += len(list)
	}
	if count < clients {
		t.Errorf("only %d times did somebody have a seat; the test shows nothing", count)
	}

	// What is left in the store: when all time is over, exactly the sold seats are taken.
	until(t, "no hold can expire any more", func(ctx context.Context) bool {
		_, err := s.reap(ctx, show)
		return err == nil && s.rdb.ZCard(ctx, keyspace.InventoryExpiring(show.ID)).Val() == 0
	})
	var sold []int
	for _, key := range s.rdb.Keys(ctx, keyspace.InventoryHoldPrefix(show.ID)+"*").Val() {
		h := s.rdb.HGetAll(ctx, key).Val()
		switch h[keyspace.HoldState] {
		case keyspace.HoldHeld:
			t.Errorf("%s is held for ever: %v", key, h)
		case keyspace.HoldConfirmed:
			for index := range strings.SplitSeq(h[keyspace.HoldSeats], ",") {
				i, err := strconv.Atoi(index)
				if err != nil {
					t.Fatal(err)
				}
				sold = append(sold, i)
			}
		}
	}
	slices.Sort(sold)
	if len(slices.Compact(slices.Clone(sold))) != len(sold) {
		t.Errorf("seats %v are sold twice", sold)
	}
	var want []string
	for _, i := range sold {
		want = append(want, show.SeatID(i))
	}
	if got := takenSeats(t, s, show); got != strings.Join(want, " ") {
		t.Errorf("taken are %q, sold are %q", got, want)
	}
}

// oneTurn holds seats and does something with them at random, each request sometimes twice, as retries do. It tells when
// the seats were had.
func oneTurn(ctx context.Context, t *testing.T, s *store, show programme.Show, rng *rand.Rand, id string, seats []string) (possession, bool) {
	hold := func(ttl time.Duration) (got held, err error) {
		_, err = patiently(func() error { got, err = s.hold(ctx, show, id, seats, ttl); return err })
		return got, err
	}
	release := func() (released, again bool) {
		again, err := patiently(func() (err error) { released, err = s.release(ctx, show, id); return err })
		if err != nil {
			t.Errorf("release: %v", err)
		}
		return released, again
	}
	if rng.IntN(10) == 0 { // a release that overtakes its hold
		release()
		if _, err := hold(time.Minute); problem.Reason(err) != reasonHoldReleased {
			t.Errorf("a late hold: %v", err)
		}
		return possession{}, false
	}
	ttl := time.Duration(1+rng.IntN(20)) * time.Millisecond
	got, err := hold(ttl)
	if rng.IntN(4) == 0 {
		again, errAgain := hold(ttl)
		switch {
		case err == nil && errAgain == nil && again != got, err == nil && errAgain != nil && problem.Reason(errAgain) != reasonHoldExpired:
			t.Errorf("hold %s answered %+v, then %+v, %v", id, got, again, errAgain)
		case err != nil && errAgain == nil: // the seats came free between the two
			got, err = again, nil
		}
	}
	if err != nil {
		// A hold whose answer was late may be over when it is asked for again.
		if reason := problem.Reason(err); reason != reasonSeatTaken && reason != reasonHoldExpired {
			t.Errorf("hold: %v", err)
		}
		return possession{}, false
	}
	had := possession{start: time.Now(), end: got.expiresAt}
	switch rng.IntN(4) {
	case 0: // leave it to expire
	case 1: // buy, and mostly take the money back, so that seats go round
		_, err := patiently(func() error { return s.confirm(ctx, show, id) })
		switch problem.Reason(err) {
		case "":
			had.end = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
			if rng.IntN(20) > 0 {
				had.end = time.Now()
				if released, again := release(); !released && !again {
					t.Errorf("the sale %s is not there to be released", id)
				}
			}
		case reasonHoldExpired:
			if time.Now().Before(got.expiresAt) {
				t.Errorf("hold %s expired before its time", id)
			}
		default:
			t.Errorf("confirm: %v", err)
		}
	default:
		had.end = minTime(had.end, time.Now())
		release()
	}
	return had, had.start.Before(had.end)
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

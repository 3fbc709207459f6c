package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
	"spillway.dev/platform/rediscall"
)

// Reasons that only inventory gives.
const (
	// reasonSeatUnknown (NotFound): the show has no such seat; metadata "seat_id".
	reasonSeatUnknown = "SEAT_UNKNOWN"
	// reasonSeatTaken (FailedPrecondition): somebody else holds or bought a seat; metadata "seat_ids", comma-separated.
	// Not retryable: the same seats are not worth asking for again, others are.
	reasonSeatTaken = "SEAT_TAKEN"
	// reasonHoldExpired (FailedPrecondition): the hold's time was over.
	reasonHoldExpired = "HOLD_EXPIRED"
	// reasonHoldReleased (FailedPrecondition): the hold was given back, perhaps before it was made.
	reasonHoldReleased = "HOLD_RELEASED"
	// reasonHoldUnknown (NotFound): there is no such hold, or it ended more than a day ago.
	reasonHoldUnknown = "HOLD_UNKNOWN"
)

// store keeps the seats of shows in Redis 7 or later, in the layout of package keyspace. A hold is named by its show and
// its id together. Its methods are for concurrent use by any number of processes; their errors are problems.
type store struct {
	rdb                         *redis.Client
	reaping, seats              *redis.Script
	holding, confirming, giving *redis.Script
	expired                     prometheus.Counter
}

// held is the answer to a hold.
type held struct {
	expiresAt   time.Time // by the clock of Redis
	amountCents int64
}

func newStore(rdb *redis.Client, reg prometheus.Registerer) (*store, error) {
	s := &store{
		rdb:        rdb,
		reaping:    redis.NewScript(reapScript),
		seats:      redis.NewScript(takenScript),
		holding:    redis.NewScript(holdScript),
		confirming: redis.NewScript(confirmScript),
		giving:     redis.NewScript(releaseScript),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_inventory_holds_expired_total",
			Help: "Holds whose time was over and whose seats this replica gave back.",
		}),
	}
	if err := reg.Register(s.expired); err != nil {
		return nil, fmt.Errorf("inventory metrics: %w", err)
	}
	return s, nil
}

// connect reaches Redis and gives it the scripts, so that from the first call on each takes one round trip.
func (s *store) connect(ctx context.Context) error {
	for _, script := range []*redis.Script{s.reaping, s.seats, s.holding, s.confirming, s.giving} {
		if err := script.Load(ctx, s.rdb).Err(); err != nil {
			return fmt.Errorf("load the inventory scripts into Redis: %w", err)
		}
	}
	return nil
}

// taken gives the show's bitmap of held and sold seats; trailing zero bytes may be missing.
func (s *store) taken(ctx context.Context, show programme.Show) ([]byte, error) {
	r, err := s.run(ctx, s.seats, show, "")
	if err != nil {
		return nil, err
	}
	if r.outcome != "done" || len(r.rest) != 1 {
		return nil, r.unexpected()
	}
	return []byte(r.rest[0]), nil
}

// hold takes all of the seats for ttl, or none. A hold that is there already gives its first answer.
func (s *store) hold(ctx context.Context, show programme.Show, id string, seatIDs []string, ttl time.Duration) (held, error) {
	indices := make([]int, 0, len(seatIDs))
	for _, seat := range seatIDs {
		i, err := show.SeatIndex(seat)
		if err != nil {
			return held{}, problem.New(codes.NotFound, reasonSeatUnknown, "%v", err).With("seat_id", seat)
		}
		indices = append(indices, i)
	}
	slices.Sort(indices) // the same seats in another order are the same request
	amount := show.PriceCents * int64(len(indices))
	r, err := s.run(ctx, s.holding, show, id, join(indices), ttl.Milliseconds(), amount)
	if err != nil {
		return held{}, err
	}
	switch {
	case r.outcome == "held" && len(r.rest) == 2:
		expires, err := strconv.ParseInt(r.rest[0], 10, 64)
		if err != nil {
			return held{}, r.unexpected()
		}
		if amount, err = strconv.ParseInt(r.rest[1], 10, 64); err != nil {
			return held{}, r.unexpected()
		}
		return held{expiresAt: time.UnixMilli(expires), amountCents: amount}, nil
	case r.outcome == "taken" && len(r.rest) == 1:
		return held{}, seatTaken(show, r)
	case r.outcome == "reused":
		return held{}, problem.New(codes.FailedPrecondition, problem.IdempotencyKeyReused,
			"hold %q is for other seats; name a new hold", id)
	}
	return held{}, r.ended(id)
}

// confirm sells the seats of a hold. Confirming again changes nothing.
func (s *store) confirm(ctx context.Context, show programme.Show, id string) error {
	r, err := s.run(ctx, s.confirming, show, id)
	if err != nil {
		return err
	}
	if r.outcome == "confirmed" {
		return nil
	}
	return r.ended(id)
}

// release gives the seats of a hold back, sold or not, and tells whether there were any. A hold that was never made can
// not be made afterwards.
func (s *store) release(ctx context.Context, show programme.Show, id string) (bool, error) {
	r, err := s.run(ctx, s.giving, show, id)
	if err != nil {
		return false, err
	}
	switch r.outcome {
	case "freed":
		return true, nil
	case "nothing":
		return false, nil
	}
	return false, r.unexpected()
}

// reap gives back the seats of at most reapBatch overdue holds and tells how many holds those were.
func (s *store) reap(ctx context.Context, show programme.Show) (int, error) {
	r, err := s.run(ctx, s.reaping, show, "")
	return r.reaped, err
}

// reply is what a script said.
type reply struct {
	outcome string
	reaped  int
	rest    []string
}

// run runs a script on a show, and on one of its holds unless id is empty.
func (s *store) run(ctx context.Context, script *redis.Script, show programme.Show, id string, args ...any) (reply, error) {
	keys := []string{keyspace.InventoryTaken(show.ID), keyspace.InventoryExpiring(show.ID)}
	argv := []any{keyspace.InventoryHoldPrefix(show.ID), reapBatch, keepFinished}
	if id != "" {
		keys = append(keys, keyspace.InventoryHold(show.ID, id))
		argv = append(append(argv, id), args...)
	}
	said, err := rediscall.Do(ctx, func(ctx context.Context) ([]string, error) {
		return script.Run(ctx, s.rdb, keys, argv...).StringSlice()
	})
	if err != nil {
		return reply{}, err
	}
	if len(said) < 2 {
		return reply{}, fmt.Errorf("an inventory script said %q", said)
	}
	r := reply{outcome: said[0], rest: said[2:]}
	if r.reaped, err = strconv.Atoi(said[1]); err != nil {
		return reply{}, r.unexpected()
	}
	s.expired.Add(float64(r.reaped))
	return r, nil
}

// ended is the error for a hold that is no longer one.
func (r reply) ended(id string) error {
	switch r.outcome {
	case keyspace.HoldExpired:
		return problem.New(codes.FailedPrecondition, reasonHoldExpired, "the time of hold %q was over; hold the seats anew under another name", id)
	case keyspace.HoldReleased:
		return problem.New(codes.FailedPrecondition, reasonHoldReleased, "hold %q was released; hold the seats anew under another name", id)
	case "unknown":
		return problem.New(codes.NotFound, reasonHoldUnknown, "there is no hold %q", id)
	}
	return r.unexpected()
}

func (r reply) unexpected() error {
	return fmt.Errorf("an inventory script said %q, %q", r.outcome, r.rest)
}

func seatTaken(show programme.Show, r reply) error {
	var ids []string
	for index := range strings.SplitSeq(r.rest[0], ",") {
		i, err := strconv.Atoi(index)
		if err != nil {
			return r.unexpected()
		}
		ids = append(ids, show.SeatID(i))
	}
	taken := strings.Join(ids, ",")
	return problem.New(codes.FailedPrecondition, reasonSeatTaken, "taken already: %s; choose other seats", taken).With("seat_ids", taken)
}

func join(indices []int) string {
	texts := make([]string, len(indices))
	for i, index := range indices {
		texts[i] = strconv.Itoa(index)
	}
	return strings.Join(texts, ",")
}

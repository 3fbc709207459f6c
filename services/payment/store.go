package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protojson"

	"spillway.dev/platform/keyspace"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

// swap replaces a record if it is still what the caller read, byte by byte.
// ARGV[1] is "" for a record that must not be there yet. It returns the record
// that holds then; the caller's own means that it won.
const swap = `
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]`

// store keeps payments in Redis. Every change is one atomic compare-and-set.
// Safe for concurrent use. Errors of Redis come as they are: with the client
// of boot, Redis away is a problem already.
type store struct {
	redis *redis.Client
	swap  *redis.Script
}

func newStore(client *redis.Client) *store {
	return &store{redis: client, swap: redis.NewScript(swap)}
}

// record is a payment together with the bytes that Redis holds for it; the
// zero record stands for a payment that is not there.
type record struct {
	*paymentv1.Payment
	raw string
}

func (r record) exists() bool { return r.raw != "" }

// load gives Redis the script, so that the first payment need not. It is also
// how Redis is reached at the start.
func (s *store) load(ctx context.Context) error { return s.swap.Load(ctx, s.redis).Err() }

// get reads a payment; the zero record when there is none.
func (s *store) get(ctx context.Context, id string) (record, error) {
	raw, err := s.redis.Get(ctx, keyspace.Payment(id)).Result()
	if errors.Is(err, redis.Nil) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("read payment %s: %w", id, err)
	}
	return parse(id, raw)
}

// put replaces old by next if old is still what is stored, and returns what is
// stored then. won tells whether that is next.
func (s *store) put(ctx context.Context, old record, next *paymentv1.Payment) (_ record, won bool, err error) {
	id := next.GetPaymentId()
	text, err := protojson.Marshal(next)
	if err != nil {
		return record{}, false, fmt.Errorf("payment %s: %w", id, err)
	}
	held, err := s.swap.Run(ctx, s.redis, []string{keyspace.Payment(id)}, old.raw, text).Text()
	if err != nil {
		return record{}, false, fmt.Errorf("write payment %s: %w", id, err)
	}
	if held == string(text) {
		return record{next, held}, true, nil
	}
	if held == "" {
		return record{}, false, nil
	}
	now, err := parse(id, held)
	return now, false, err
}

func parse(id, raw string) (record, error) {
	p := &paymentv1.Payment{}
	if err := protojson.Unmarshal([]byte(raw), p); err != nil {
		return record{}, fmt.Errorf("the record at %q is damaged: %w", keyspace.Payment(id), err)
	}
	return record{p, raw}, nil
}

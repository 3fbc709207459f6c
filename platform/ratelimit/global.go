package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"

	"spillway.dev/platform/gcra"
	"spillway.dev/platform/keyspace"
)

// Patience is the longest that a call waits for Redis. It answers in well under a millisecond when all is well, and a
// limit that costs more time than the work it guards would be of no use.
const Patience = 20 * time.Millisecond

const (
	// away is after how many calls in a row without an answer Redis is no longer asked: one may be chance.
	away = 3
	// pause is for how long it is not. Then one call tries.
	pause = 250 * time.Millisecond
)

// Source tells who decided.
type Source uint8

// Who decides.
const (
	// Redis decided for all replicas together.
	Redis Source = iota
	// Allowance is this replica's own share, while Redis does not answer.
	Allowance
)

// Verdict is what was decided on one call.
type Verdict struct {
	// Wait is 0 for a call that is let in. Otherwise it would be after this time, if no other came.
	Wait time.Duration
	// By is the index of the limit that refused.
	By int
	// Source is who decided.
	Source Source
}

// Global limits calls together with every other replica that uses the same name on the same Redis. Safe for concurrent
// use.
type Global struct {
	name     string
	rdb      redis.Scripter
	replicas func() int
	now      func() time.Duration
	patience time.Duration
	own      *gcra.Limiter
	breaker  *gobreaker.CircuitBreaker[Verdict]
}

// NewGlobal makes the limits called name: the service for calls into it, "payment>bank" for those of payment to the bank.
// replicas tells how many share them now, as far as is known; below 1 counts as 1. It is asked only while Redis does not
// answer. Redis must be 5 or later, alone, with replicas, or a cluster: all keys of a name are in one slot of it. The
// client's time-outs may be longer than Patience, its ContextTimeoutEnabled must be set.
func NewGlobal(name string, rdb redis.Scripter, replicas func() int) *Global {
	begin := time.Now()
	return &Global{
		name: name, rdb: rdb, replicas: replicas, own: gcra.NewLimiter(), patience: Patience,
		now: func() time.Duration { return time.Since(begin) },
		breaker: gobreaker.NewCircuitBreaker[Verdict](gobreaker.Settings{
			Name:        name,
			MaxRequests: 1,
			Timeout:     pause,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= away },
		}),
	}
}

// Admit lets a call in if all limits allow it, and then charges all of them, in one round trip. It takes no longer than
// Patience, and never fails: when Redis does not answer, the replica's share of the limits decides. ctx gives what tracing
// needs; its end is not waited for and changes nothing.
//
// A call that Redis let in but whose answer was lost is charged twice: there, and to the share that then decides.
func (g *Global) Admit(ctx context.Context, asks ...gcra.Ask) Verdict {
	verdict, err := g.breaker.Execute(func() (Verdict, error) { return g.ask(ctx, asks) })
	own := g.shares(asks)
	if err != nil {
		wait, by := g.own.Admit(g.now(), own...)
		return Verdict{Wait: wait, By: by, Source: Allowance}
	}
	if verdict.Wait == 0 {
		// So that a replica which loses Redis has no burst left if it used it just now.
		g.own.Charge(g.now(), own...)
	}
	return verdict
}

// shares is this replica's part of the limits.
func (g *Global) shares(asks []gcra.Ask) []gcra.Ask {
	n := max(g.replicas(), 1)
	own := make([]gcra.Ask, len(asks))
	for i, ask := range asks {
		own[i] = gcra.Ask{Key: ask.Key, Limit: ask.Limit.Share(n), Leave: ask.Leave}
	}
	return own
}

// ask runs the script. A short deadline of the caller must not look as if Redis were away, nor cost a connection.
func (g *Global) ask(ctx context.Context, asks []gcra.Ask) (Verdict, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.patience)
	defer cancel()
	keys, args := make([]string, 0, 2), make([]any, 0, 6)
	at := make([]int, 0, 2) // the index of each key's ask
	for i, ask := range asks {
		if ask.Limit.Interval <= 0 {
			continue
		}
		keys = append(keys, keyspace.RateLimit(g.name, ask.Key))
		args = append(args, ticks(ask.Limit.Interval), ticks(ask.Limit.Tolerance), ticks(ask.Leave))
		at = append(at, i)
	}
	if len(keys) == 0 {
		return Verdict{}, nil
	}
	reply, err := script.Run(ctx, g.rdb, keys, args...).Int64Slice()
	switch {
	case err != nil:
		return Verdict{}, fmt.Errorf("rate limit %s: %w", g.name, err)
	case len(reply) != 2 || reply[0] < 0 || reply[0] > 0 && (reply[1] < 1 || int(reply[1]) > len(at)):
		return Verdict{}, fmt.Errorf("rate limit %s: %w", g.name, errReply)
	case reply[0] == 0:
		return Verdict{}, nil
	}
	return Verdict{Wait: time.Duration(reply[0]) * tick, By: at[reply[1]-1]}, nil
}

var errReply = errors.New("the script gave a reply of another shape")

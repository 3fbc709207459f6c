// Package rediscall is one call to Redis as a request makes it: bounded in time, and with an error that says to the
// caller's caller whether Redis was away or the service at fault.
package rediscall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
)

// Bound is the longest that Do waits, whatever deadline its caller has. A healthy Redis answers in about a millisecond;
// the client's own time-outs (dial, wait for a connection, read) add up, and a user should hear "not now" within 250 ms.
const Bound = 200 * time.Millisecond

// retryAfter is when a caller may find Redis back: a failover or restart takes longer, a lost connection less.
const retryAfter = 100 * time.Millisecond

// Do runs f, which calls Redis with the context it is given, for Bound at most. It returns f's error as Error makes it.
func Do[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, Bound)
	defer cancel()
	v, err := f(bounded)
	return v, Error(ctx, err)
}

// Error turns what go-redis returned into what a handler may return. ctx is the context of the request, not the one with
// Bound on it: its own end stays its end. redis.Nil and nil stay as they are. No answer, or the answer that Redis cannot
// serve just now, is a problem.Problem with Unavailable and DEPENDENCY_AWAY, retryable. Any other answer is a fault of
// the code that asked and stays a plain error.
func Error(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return err
	case ctx.Err() != nil:
		return problem.From(ctx.Err())
	}
	// A client whose hook calls Error has said it already. But such a hook takes the end of Do's own bound for the end of
	// the request, so only this much of it is taken over.
	if p, ok := errors.AsType[*problem.Problem](err); ok && p.Code == codes.Unavailable {
		return err
	}
	if answer, ok := errors.AsType[redis.Error](err); ok && !passing(answer.Error()) {
		return fmt.Errorf("redis refused a command: %w", err)
	}
	if Refused(err) {
		return problem.New(codes.Unavailable, problem.DependencyAway, "Redis takes no more connections; try again").
			Retry(retryAfter).With("dependency", "redis").Because(err)
	}
	return problem.New(codes.Unavailable, problem.DependencyAway, "Redis does not answer; try again").Retry(retryAfter).
		With("dependency", "redis").Because(err)
}

// refused is the answer of a Redis that has as many connections as its maxclients allows.
const refused = "ERR max number of clients reached"

// ErrRefused is that answer, for who reads it off a connection himself.
var ErrRefused redis.Error = refusal{}

type refusal struct{}

func (refusal) Error() string { return refused }

// RedisError implements redis.Error.
func (refusal) RedisError() {}

// Refuses tells whether what Redis wrote on a new connection is that refusal.
func Refuses(said []byte) bool { return bytes.HasPrefix(said, []byte("-"+refused)) }

// Refused tells whether err is Redis' refusal of a connection because it has as many as its maxclients allows. Fewer
// replicas, smaller pools (SPILLWAY_REDIS_POOL_SIZE) or a larger maxclients end that; a retry helps only by luck.
func Refused(err error) bool {
	answer, ok := errors.AsType[redis.Error](err)
	return ok && strings.HasPrefix(answer.Error(), refused)
}

// passing tells the answers of a Redis that is there and will serve later from those that stay.
func passing(answer string) bool {
	for _, prefix := range []string{
		"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "BUSY ", "OOM ", "MISCONF ", "NOREPLICAS ",
		refused,
	} {
		if strings.HasPrefix(answer, prefix) {
			return true
		}
	}
	return false
}

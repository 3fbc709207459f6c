// Package session keeps who is signed in, in Redis, so that any replica answers for any session.
//
// A session is proved by a random token, of which only the SHA-256 is stored. It ends when nobody touched it for the idle
// time, when its absolute time is over however busy it is, or when it is revoked. Each operation is one script, so it
// happens wholly or not at all, whatever other replicas do at the same time.
//
// Memory keeps the same sessions in one process instead, for a study of what that costs.
package session

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/rediscall"
)

// MaxPerPerson bounds the sessions of one person; a sign-in beyond it ends the one that would expire first. It bounds
// what one script does while Redis serves nobody else.
const MaxPerPerson = 1000

// errInvalid tells nothing but that: which of malformed, forged, expired and revoked it was would help who guesses.
var errInvalid = problem.New(codes.Unauthenticated, problem.SessionInvalid, "the session is not valid: sign in again")

// Lifetime says how long sessions last. Both are kept to the millisecond.
type Lifetime struct {
	// Idle ends a session that is not touched for so long.
	Idle time.Duration
	// Absolute ends a session so long after sign-in, whatever happens; at least Idle.
	Absolute time.Duration
}

// Validate checks that the times are possible.
func (l Lifetime) Validate() error {
	switch {
	case l.Idle < time.Millisecond:
		return fmt.Errorf("the idle lifetime of sessions is %v; allowed are 1ms or more", l.Idle)
	case l.Absolute < l.Idle:
		return fmt.Errorf("the absolute lifetime of sessions is %v; it must be at least the idle one, %v", l.Absolute, l.Idle)
	}
	return nil
}

// Session is one sign-in of a person.
type Session struct {
	Person string
	// Token is set by what makes one: SignIn and Refresh.
	Token Token
	// ExpiresAt is the absolute expiry, by the clock of Redis. The idle one may come first.
	ExpiresAt time.Time
}

// Store keeps sessions. It is safe for concurrent use, by many processes.
//
// Its errors are problems: Unauthenticated with SESSION_INVALID for a token without a session, Unavailable with
// DEPENDENCY_AWAY when Redis does not answer within rediscall.Bound. None of them holds a token.
type Store struct {
	rdb                                       *redis.Client
	life                                      Lifetime
	signIn, touch, refresh, revoke, revokeAll *redis.Script
}

// NewStore makes a store on Redis 7 or later. The lifetime must be valid.
func NewStore(rdb *redis.Client, life Lifetime) *Store {
	return &Store{
		rdb: rdb, life: life,
		signIn:    redis.NewScript(signInScript),
		touch:     redis.NewScript(touchScript),
		refresh:   redis.NewScript(refreshScript),
		revoke:    redis.NewScript(revokeScript),
		revokeAll: redis.NewScript(revokeAllScript),
	}
}

// Connect reaches Redis and gives it the scripts, so that from the first call on each takes one round trip.
func (s *Store) Connect(ctx context.Context) error {
	for _, script := range []*redis.Script{s.signIn, s.touch, s.refresh, s.revoke, s.revokeAll} {
		if err := script.Load(ctx, s.rdb).Err(); err != nil {
			return fmt.Errorf("load the session scripts into Redis: %w", err)
		}
	}
	return nil
}

// SignIn opens a session of a person. The session that the caller came with, if any, ends in the same step, so that a
// token planted before a sign-in is worth nothing after it. previous may be empty or invalid.
func (s *Store) SignIn(ctx context.Context, person string, previous Token) (Session, error) {
	token := newToken()
	hash, _ := token.hash()
	old := ""
	if h, ok := previous.hash(); ok {
		old = keyspace.Session(h)
	}
	reply, err := s.run(ctx, s.signIn, []string{keyspace.Session(hash), old},
		person, s.life.Idle.Milliseconds(), s.life.Absolute.Milliseconds(), MaxPerPerson)
	if err != nil {
		return Session{}, fmt.Errorf("sign in: %w", err)
	}
	return decode(append([]string{person}, reply...), token)
}

// Touch tells whose session it is and puts its idle expiry off. It takes one round trip.
func (s *Store) Touch(ctx context.Context, token Token) (Session, error) {
	hash, ok := token.hash()
	if !ok {
		return Session{}, errInvalid
	}
	reply, err := s.run(ctx, s.touch, []string{keyspace.Session(hash)}, s.life.Idle.Milliseconds())
	if err != nil {
		return Session{}, fmt.Errorf("touch: %w", err)
	}
	return decode(reply, "")
}

// Refresh exchanges a token for a new one. The old one ends in the same step; the absolute expiry stays what it was. When
// the answer is lost the session is lost with it: the person signs in again.
func (s *Store) Refresh(ctx context.Context, token Token) (Session, error) {
	hash, ok := token.hash()
	if !ok {
		return Session{}, errInvalid
	}
	next := newToken()
	nextHash, _ := next.hash()
	reply, err := s.run(ctx, s.refresh, []string{keyspace.Session(hash), keyspace.Session(nextHash)},
		s.life.Idle.Milliseconds(), MaxPerPerson)
	if err != nil {
		return Session{}, fmt.Errorf("refresh: %w", err)
	}
	return decode(reply, next)
}

// Revoke ends one session and tells how many that were: 1, or 0 when there is none.
func (s *Store) Revoke(ctx context.Context, token Token) (int, error) {
	hash, ok := token.hash()
	if !ok {
		return 0, nil
	}
	return s.count(ctx, "revoke", s.revoke, keyspace.Session(hash))
}

// RevokeAll ends every session of a person and tells how many those were.
func (s *Store) RevokeAll(ctx context.Context, person string) (int, error) {
	return s.count(ctx, "revoke all", s.revokeAll, keyspace.SessionPerson(person))
}

func (s *Store) count(ctx context.Context, what string, script *redis.Script, key string) (int, error) {
	reply, err := s.run(ctx, script, []string{key})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if len(reply) != 1 {
		return 0, fmt.Errorf("%s: %w", what, errReply)
	}
	return strconv.Atoi(reply[0])
}

func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) ([]string, error) {
	return rediscall.Do(ctx, func(ctx context.Context) ([]string, error) {
		return script.Run(ctx, s.rdb, keys, args...).StringSlice()
	})
}

var errReply = errors.New("a session script gave a reply of another shape")

// decode reads {person, ends_ms}; an empty reply says that there is no such session.
func decode(reply []string, token Token) (Session, error) {
	if len(reply) == 0 {
		return Session{}, errInvalid
	}
	if len(reply) != 2 {
		return Session{}, errReply
	}
	ends, err := strconv.ParseInt(reply[1], 10, 64)
	if err != nil {
		return Session{}, fmt.Errorf("%w: %w", errReply, err)
	}
	return Session{Person: reply[0], Token: token, ExpiresAt: time.UnixMilli(ends)}, nil
}

package session

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/keyspace"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/redistest"
)

func wantInvalid(t *testing.T, err error) {
	t.Helper()
	if p := problem.From(err); p == nil || p.Code != codes.Unauthenticated || p.Reason != problem.SessionInvalid || p.Retryable {
		t.Errorf("error %v, want SESSION_INVALID", err)
	}
}

// keeper is what both stores do.
type keeper interface {
	SignIn(ctx context.Context, person string, previous Token) (Session, error)
	Touch(ctx context.Context, token Token) (Session, error)
	Refresh(ctx context.Context, token Token) (Session, error)
	Revoke(ctx context.Context, token Token) (int, error)
	RevokeAll(ctx context.Context, person string) (int, error)
}

// onBoth runs a test on Redis and in memory: what sessions do must not depend on where they are kept.
func onBoth(t *testing.T, life Lifetime, test func(t *testing.T, s keeper)) {
	t.Run("redis-server", func(t *testing.T) { test(t, newStore(t, life)) })
	t.Run("memory", func(t *testing.T) { test(t, NewMemory(life, time.Now)) })
}

func wantSession(t *testing.T, s keeper, token Token, who string) {
	t.Helper()
	got, err := s.Touch(t.Context(), token)
	if err != nil || got.Person != who {
		t.Errorf("Touch = %+v, %v, want the session of %s", got, err, who)
	}
}

func wantEnded(t *testing.T, s keeper, token Token) {
	t.Helper()
	_, err := s.Touch(t.Context(), token)
	wantInvalid(t, err)
}

func TestLifeOfASession(t *testing.T) {
	onBoth(t, long, lifeOfASession)
	// What the local engine falls back to where there is no redis-server.
	t.Run("miniredis", func(t *testing.T) {
		s := NewStore(connect(t, miniredis.RunT(t).Addr()), long)
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		lifeOfASession(t, s)
	})
}

func lifeOfASession(t *testing.T, s keeper) {
	who := person(t)
	before := time.Now()
	first := signIn(t, s, who, "")
	if d := first.ExpiresAt.Sub(before); d < long.Absolute-time.Second || d > long.Absolute+time.Minute {
		t.Errorf("a session lasts %v, want %v", d, long.Absolute)
	}
	wantSession(t, s, first.Token, who)

	second := signIn(t, s, who, first.Token)
	if second.Token == first.Token {
		t.Error("a sign-in kept the token")
	}
	wantEnded(t, s, first.Token)
	wantSession(t, s, second.Token, who)

	third, err := s.Refresh(t.Context(), second.Token)
	if err != nil {
		t.Fatal(err)
	}
	if third.Person != who || !third.ExpiresAt.Equal(second.ExpiresAt) {
		t.Errorf("refresh made %+v of %+v: person and absolute expiry must stay", third, second)
	}
	wantEnded(t, s, second.Token)
	wantSession(t, s, third.Token, who)
	_, err = s.Refresh(t.Context(), second.Token)
	wantInvalid(t, err)

	for _, want := range []int{1, 0} {
		if n, err := s.Revoke(t.Context(), third.Token); n != want || err != nil {
			t.Errorf("Revoke = %d, %v, want %d", n, err, want)
		}
	}
	wantEnded(t, s, third.Token)

	tokens := []Token{signIn(t, s, who, "").Token, signIn(t, s, who, "").Token}
	other := signIn(t, s, person(t), "")
	for _, want := range []int{2, 0} {
		if n, err := s.RevokeAll(t.Context(), who); n != want || err != nil {
			t.Errorf("RevokeAll = %d, %v, want %d", n, err, want)
		}
	}
	for _, token := range tokens {
		wantEnded(t, s, token)
	}
	wantSession(t, s, other.Token, other.Person)
}

func TestASignInEndsTheSessionOfAnotherPerson(t *testing.T) {
	onBoth(t, long, aSignInEndsTheSessionOfAnotherPerson)
}

func aSignInEndsTheSessionOfAnotherPerson(t *testing.T, s keeper) {
	a, b := person(t), person(t)
	first := signIn(t, s, a, "")
	signIn(t, s, b, first.Token)
	wantEnded(t, s, first.Token)
	if n, err := s.RevokeAll(t.Context(), a); n != 0 || err != nil {
		t.Errorf("RevokeAll of the first person = %d, %v, want 0", n, err)
	}
}

func TestForgedTokens(t *testing.T) { onBoth(t, long, forgedTokens) }

func forgedTokens(t *testing.T, s keeper) {
	real := signIn(t, s, person(t), "").Token
	for name, token := range map[string]Token{
		"empty":             "",
		"of the right form": newToken(),
		"too short":         real[:len(real)-1],
		"too long":          real + "A",
		"with a line break": real + "\n",
		"not base64":        Token(strings.Repeat("!", 43)),
		"a key of Redis":    Token("person:" + strings.Repeat("a", 36)),
		"other last bits":   real[:len(real)-1] + "B", // the last character has two bits that no byte uses
	} {
		t.Run(name, func(t *testing.T) {
			wantEnded(t, s, token)
			_, err := s.Refresh(t.Context(), token)
			wantInvalid(t, err)
			if n, err := s.Revoke(t.Context(), token); n != 0 || err != nil {
				t.Errorf("Revoke = %d, %v", n, err)
			}
			if _, err := s.SignIn(t.Context(), person(t), token); err != nil {
				t.Errorf("an invalid previous token stops a sign-in: %v", err)
			}
		})
	}
	if _, err := s.Touch(t.Context(), real); err != nil {
		t.Errorf("the real token is gone: %v", err)
	}
}

func TestTokens(t *testing.T) {
	seen := map[Token]bool{}
	for range 1000 {
		token := newToken()
		raw, err := base64.RawURLEncoding.DecodeString(string(token))
		if err != nil || len(raw)*8 != 256 {
			t.Fatalf("a token has %d bits, %v", len(raw)*8, err)
		}
		if seen[token] {
			t.Fatal("a token came twice")
		}
		seen[token] = true
	}
	token := newToken()
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", token, "session", Session{Token: token})
	fmt.Fprintf(&out, "%v %s %q %#v %+v", token, token, token, token, Session{Token: token})
	if err := json.NewEncoder(&out).Encode(Session{Token: token}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), string(token)) {
		t.Errorf("the token shows: %s", &out)
	}
}

func TestRedisNeverSeesAToken(t *testing.T) {
	s := newStore(t, long)
	var seen strings.Builder
	s.rdb.AddHook(onProcess(func(cmd redis.Cmder) { fmt.Fprintln(&seen, cmd.Args()...) }))
	a := signIn(t, s, person(t), "")
	b, err := s.Refresh(t.Context(), a.Token)
	if err != nil {
		t.Fatal(err)
	}
	wantSession(t, s, b.Token, b.Person)
	if _, err := s.Revoke(t.Context(), b.Token); err != nil {
		t.Fatal(err)
	}
	if seen.Len() == 0 {
		t.Fatal("the hook saw nothing")
	}
	for _, token := range []Token{a.Token, b.Token} {
		if strings.Contains(seen.String(), string(token)) {
			t.Error("a command holds a token")
		}
	}
}

func TestATouchIsOneRoundTrip(t *testing.T) {
	s := newStore(t, long)
	token := signIn(t, s, person(t), "").Token
	var trips atomic.Int64
	s.rdb.AddHook(onProcess(func(redis.Cmder) { trips.Add(1) }))
	if _, err := s.Touch(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if n := trips.Load(); n != 1 {
		t.Errorf("a touch took %d round trips", n)
	}
}

func TestIdleExpiry(t *testing.T) {
	s := newStore(t, Lifetime{Idle: 300 * time.Millisecond, Absolute: time.Hour})
	who := person(t)
	idle, busy := signIn(t, s, who, ""), signIn(t, s, who, "")
	hash, _ := idle.Token.hash()
	start := time.Now()
	until(t, "the idle session is gone", func(ctx context.Context) (bool, error) {
		// A touch that comes in time keeps the busy one, on a machine that gives this loop its turn.
		if _, err := s.Touch(ctx, busy.Token); err != nil {
			if problem.Reason(err) == problem.SessionInvalid {
				busy = signIn(t, s, who, "")
			} else {
				return false, err
			}
		}
		n, err := s.rdb.Exists(ctx, keyspace.Session(hash)).Result()
		return n == 0, err
	})
	if d := time.Since(start); d < 200*time.Millisecond {
		t.Errorf("an idle session of 300 ms ended after %v", d)
	}
	wantEnded(t, s, idle.Token)
	wantSession(t, s, busy.Token, who)

	// The set forgets the dead at the next sign-in.
	last := signIn(t, s, who, "")
	members, err := s.rdb.ZRange(t.Context(), keyspace.SessionPerson(who), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	lastHash, _ := last.Token.hash()
	if slices.Contains(members, keyspace.Session(hash)) {
		t.Error("the set of the person keeps an expired session")
	}
	if !slices.Contains(members, keyspace.Session(lastHash)) {
		t.Errorf("the set of the person is %v, without the last sign-in", members)
	}
}

func TestTouchingPutsTheIdleExpiryOff(t *testing.T) {
	s := newStore(t, Lifetime{Idle: time.Minute, Absolute: time.Hour})
	token := signIn(t, s, person(t), "").Token
	hash, _ := token.hash()
	key := keyspace.Session(hash)
	if err := s.rdb.PExpire(t.Context(), key, 10*time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Touch(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if left := s.rdb.PTTL(t.Context(), key).Val(); left < 50*time.Second || left > time.Minute {
		t.Errorf("%v left after a touch, want a minute", left)
	}
}

func TestAbsoluteExpiryHoldsForTheBusyAndTheRefreshed(t *testing.T) {
	s := newStore(t, Lifetime{Idle: 200 * time.Millisecond, Absolute: 500 * time.Millisecond})
	session := signIn(t, s, person(t), "")
	until(t, "the session is over", func(ctx context.Context) (bool, error) {
		next, err := s.Refresh(ctx, session.Token)
		if problem.Reason(err) == problem.SessionInvalid {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if !next.ExpiresAt.Equal(session.ExpiresAt) {
			return false, fmt.Errorf("refresh moved the absolute expiry from %v to %v", session.ExpiresAt, next.ExpiresAt)
		}
		session = next
		return false, nil
	})
	until(t, "the person's set is gone too", func(ctx context.Context) (bool, error) {
		n, err := s.rdb.Exists(ctx, keyspace.SessionPerson(session.Person)).Result()
		return n == 0, err
	})
}

func TestOnePersonHasABoundedNumberOfSessions(t *testing.T) {
	s := newStore(t, long)
	who := person(t)
	first := signIn(t, s, who, "").Token
	// Sessions of one millisecond end in any order.
	signedIn := s.rdb.Time(t.Context()).Val()
	until(t, "a millisecond has passed", func(ctx context.Context) (bool, error) {
		now, err := s.rdb.Time(ctx).Result()
		return now.Sub(signedIn) > time.Millisecond, err
	})
	var last Token
	for range MaxPerPerson {
		last = signIn(t, s, who, "").Token
	}
	wantEnded(t, s, first)
	wantSession(t, s, last, who)
	if n, err := s.RevokeAll(t.Context(), who); n != MaxPerPerson || err != nil {
		t.Errorf("RevokeAll = %d, %v, want %d", n, err, MaxPerPerson)
	}
}

// Of many refreshes of one token at once exactly one gets the session on.
func TestConcurrentRefreshesHaveOneWinner(t *testing.T) {
	onBoth(t, long, concurrentRefreshesHaveOneWinner)
}

func concurrentRefreshesHaveOneWinner(t *testing.T, s keeper) {
	who := person(t)
	token := signIn(t, s, who, "").Token
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			switch _, err := s.Refresh(t.Context(), token); {
			case err == nil:
				won.Add(1)
			case problem.Reason(err) != problem.SessionInvalid:
				t.Errorf("refresh: %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d refreshes of one token won", won.Load())
	}
	if n, err := s.RevokeAll(t.Context(), who); n != 1 || err != nil {
		t.Errorf("%d sessions are left, %v, want 1", n, err)
	}
}

// After RevokeAll returned, no session made before it lives, whatever was going on.
func TestRevokeAllAmongTouchesAndRefreshes(t *testing.T) {
	onBoth(t, long, revokeAllAmongTouchesAndRefreshes)
}

func revokeAllAmongTouchesAndRefreshes(t *testing.T, s keeper) {
	who := person(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	last := make([]Token, 8)
	for i := range last {
		last[i] = signIn(t, s, who, "").Token
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				next, err := s.Refresh(t.Context(), last[i])
				if err == nil {
					last[i] = next.Token
					_, err = s.Touch(t.Context(), last[i])
				}
				if problem.Reason(err) == problem.SessionInvalid {
					return
				}
				if err != nil {
					t.Errorf("refresh and touch: %v", err)
					return
				}
			}
		})
	}
	if n, err := s.RevokeAll(t.Context(), who); n != len(last) || err != nil {
		t.Errorf("RevokeAll = %d, %v, want %d", n, err, len(last))
	}
	close(stop)
	wg.Wait()
	for _, token := range last {
		wantEnded(t, s, token)
	}
}

func TestScriptsComeBackAfterRedisForgotThem(t *testing.T) {
	s := newStore(t, long)
	if err := s.rdb.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	who := person(t)
	wantSession(t, s, signIn(t, s, who, "").Token, who)
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
	s := NewStore(connect(t, own.Addr()), long)
	who := person(t)
	token := signIn(t, s, who, "").Token
	calls := map[string]func() error{
		"sign in":    func() error { _, err := s.SignIn(t.Context(), who, ""); return err },
		"touch":      func() error { _, err := s.Touch(t.Context(), token); return err },
		"refresh":    func() error { _, err := s.Refresh(t.Context(), token); return err },
		"revoke":     func() error { _, err := s.Revoke(t.Context(), token); return err },
		"revoke all": func() error { _, err := s.RevokeAll(t.Context(), who); return err },
	}
	check := func(state string) {
		for name, call := range calls {
			took := time.Hour
			for range 3 { // the best of three: a busy machine may hold one of them up
				start := time.Now()
				p := problem.From(call())
				if p == nil || p.Code != codes.Unavailable || p.Reason != problem.DependencyAway || !p.Retryable {
					t.Errorf("%s, Redis %s: %v", name, state, p)
				}
				if took = min(took, time.Since(start)); took <= 250*time.Millisecond {
					break
				}
			}
			if took > 250*time.Millisecond {
				t.Errorf("%s, Redis %s: answered after %v", name, state, took)
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
	until(t, "sessions work again", func(ctx context.Context) (bool, error) {
		_, err := s.SignIn(ctx, who, "")
		if problem.Reason(err) == problem.DependencyAway {
			return false, nil
		}
		return err == nil, err
	})
	wantEnded(t, s, token) // this Redis keeps nothing
}

func TestLifetimeIsChecked(t *testing.T) {
	for life, ok := range map[Lifetime]bool{
		long:                                   true,
		{Idle: time.Second}:                    false,
		{Absolute: time.Second}:                false,
		{Idle: -time.Second}:                   false,
		{Idle: time.Hour, Absolute: time.Hour}: true,
	} {
		if err := life.Validate(); (err == nil) != ok {
			t.Errorf("%+v: %v", life, err)
		}
	}
}

// onProcess is a hook that sees every command.
type onProcess func(redis.Cmder)

func (f onProcess) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f onProcess) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f(cmd)
		return next(ctx, cmd)
	}
}

func (f onProcess) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

package session

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"spillway.dev/platform/rediscall"
	"spillway.dev/platform/redistest"
)

// server is the Redis that all tests share, each with persons of its own. It is set once, before any test.
var server *redistest.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		s, err := redistest.Start()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		server = s
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

var long = Lifetime{Idle: time.Minute, Absolute: time.Hour}

func connect(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: rediscall.Bound, ReadTimeout: rediscall.Bound, WriteTimeout: rediscall.Bound, PoolTimeout: rediscall.Bound,
	})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func newStore(t *testing.T, life Lifetime) *Store {
	t.Helper()
	s := NewStore(connect(t, server.Addr()), life)
	if err := s.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// person names a person that no other test and no other run of this test knows.
var persons atomic.Int64

func person(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("p%d", persons.Add(1))
}

func signIn(t *testing.T, s keeper, who string, previous Token) Session {
	t.Helper()
	got, err := s.SignIn(t.Context(), who, previous)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// until waits for a condition of the store.
func until(t *testing.T, what string, holds func(context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		ok, err := holds(ctx)
		if err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

package ratelimit

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"

	"spillway.dev/platform/redistest"
)

// server is one Redis for all tests that do not harm it.
var server *redistest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = redistest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// unhurriedly is a patience that no busy machine comes to the end of.
const unhurriedly = 10 * time.Second

// shared gives a client of the server for all, emptied.
func shared(t testing.TB) *redis.Client {
	t.Helper()
	c := client(t, server.Addr())
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

// client is one of Redis as a service has it.
func client(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, ContextTimeoutEnabled: true, PoolSize: 20,
		DialTimeout: unhurriedly, ReadTimeout: unhurriedly, WriteTimeout: unhurriedly, PoolTimeout: unhurriedly,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// own starts a Redis that a test may kill.
func own(t *testing.T) *redistest.Server {
	t.Helper()
	s, err := redistest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// alone says that a service has one replica.
func alone() int { return 1 }

// asked counts how often Redis is asked, and knows the longest time that it was given.
type asked struct {
	redis.Scripter
	n       atomic.Int64
	longest atomic.Int64
}

func (a *asked) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	a.n.Add(1)
	given := int64(time.Hour)
	if end, ok := ctx.Deadline(); ok {
		given = int64(time.Until(end))
	}
	a.longest.Store(max(a.longest.Load(), given))
	return a.Scripter.EvalSha(ctx, sha, keys, args...)
}

// unhurried makes a Redis that a busy machine delays no reason for the allowance: what is tested is what Redis decides.
func unhurried(g *Global) *Global {
	g.patience = unhurriedly
	return g
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/redistest"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// redisServer is the Redis that tests share, each with persons of its own. It is set once, before any test.
var redisServer *redistest.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		s, err := redistest.Start()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		redisServer = s
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

var persons atomic.Int64

// person names somebody that no other test and no other run of this test knows.
func person() string { return fmt.Sprintf("p%d", persons.Add(1)) }

func start(t *testing.T, redisAddr string, environ ...string) (sessionv1.SessionServiceClient, *boottest.Replica) {
	t.Helper()
	r := boottest.Start(t, spec(), append([]string{"SPILLWAY_REDIS_ADDR=" + redisAddr}, environ...)...)
	r.WaitServing()
	return sessionv1.NewSessionServiceClient(r.Conn), r
}

func wantReason(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	p := problem.From(err)
	if p == nil || p.Code != code || p.Reason != reason || p.Retryable != (code == codes.Unavailable) {
		t.Errorf("got %v, want %v %s", err, code, reason)
	}
}

func until(t *testing.T, what string, holds func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !holds(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestRPCs(t *testing.T) {
	for _, store := range []string{"redis", "memory"} {
		t.Run(store, func(t *testing.T) { testRPCs(t, "SPILLWAY_SESSION_STORE="+store) })
	}
}

func testRPCs(t *testing.T, store string) {
	c, _ := start(t, redisServer.Addr(), store, "SPILLWAY_SESSION_IDLE_TTL=1m", "SPILLWAY_SESSION_ABSOLUTE_TTL=1h")
	ctx, who := t.Context(), person()
	first, err := c.SignIn(ctx, &sessionv1.SignInRequest{PersonId: who})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(first.GetExpiresAt().AsTime()); left < 59*time.Minute || left > 61*time.Minute {
		t.Errorf("a session of an hour ends in %v", left)
	}
	second, err := c.SignIn(ctx, &sessionv1.SignInRequest{PersonId: who, PreviousToken: first.GetToken()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Touch(ctx, &sessionv1.TouchRequest{Token: first.GetToken()})
	wantReason(t, err, codes.Unauthenticated, problem.SessionInvalid)

	touched, err := c.Touch(ctx, &sessionv1.TouchRequest{Token: second.GetToken()})
	if err != nil || touched.GetPersonId() != who || !touched.GetExpiresAt().AsTime().Equal(second.GetExpiresAt().AsTime()) {
		t.Errorf("touch: %v, %v", touched, err)
	}
	third, err := c.Refresh(ctx, &sessionv1.RefreshRequest{Token: second.GetToken()})
	if err != nil || !third.GetExpiresAt().AsTime().Equal(second.GetExpiresAt().AsTime()) {
		t.Errorf("refresh: expires %v, %v", third.GetExpiresAt(), err)
	}
	for _, want := range []int32{1, 0} {
		if r, err := c.Revoke(ctx, &sessionv1.RevokeRequest{Token: third.GetToken()}); err != nil || r.GetEnded() != want {
			t.Errorf("revoke: %v, %v, want %d", r, err, want)
		}
	}
	for range 3 {
		if _, err := c.SignIn(ctx, &sessionv1.SignInRequest{PersonId: who}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := c.RevokeAll(ctx, &sessionv1.RevokeAllRequest{PersonId: who}); err != nil || r.GetEnded() != 3 {
		t.Errorf("revoke all: %v, %v", r, err)
	}
}

func TestSessionsAreSharedByReplicas(t *testing.T) {
	a, _ := start(t, redisServer.Addr())
	b, _ := start(t, redisServer.Addr())
	who := person()
	s, err := a.SignIn(t.Context(), &sessionv1.SignInRequest{PersonId: who})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := b.Touch(t.Context(), &sessionv1.TouchRequest{Token: s.GetToken()}); err != nil || r.GetPersonId() != who {
		t.Errorf("the other replica says %v, %v", r, err)
	}
	if r, err := b.Revoke(t.Context(), &sessionv1.RevokeRequest{Token: s.GetToken()}); err != nil || r.GetEnded() != 1 {
		t.Errorf("revoke: %v, %v", r, err)
	}
	_, err = a.Touch(t.Context(), &sessionv1.TouchRequest{Token: s.GetToken()})
	wantReason(t, err, codes.Unauthenticated, problem.SessionInvalid)
}

// TestErrors is the list of statuses and reasons of each RPC.
func TestErrors(t *testing.T) {
	c, _ := start(t, redisServer.Addr())
	ctx := t.Context()
	forged := strings.Repeat("A", 43)
	signIn := func(who, previous string) error {
		_, err := c.SignIn(ctx, &sessionv1.SignInRequest{PersonId: who, PreviousToken: previous})
		return err
	}
	touch := func(token string) error {
		_, err := c.Touch(ctx, &sessionv1.TouchRequest{Token: token})
		return err
	}
	refresh := func(token string) error {
		_, err := c.Refresh(ctx, &sessionv1.RefreshRequest{Token: token})
		return err
	}
	revoke := func(token string) error {
		_, err := c.Revoke(ctx, &sessionv1.RevokeRequest{Token: token})
		return err
	}
	revokeAll := func(who string) error {
		_, err := c.RevokeAll(ctx, &sessionv1.RevokeAllRequest{PersonId: who})
		return err
	}
	for _, x := range []struct {
		name   string
		err    error
		code   codes.Code
		reason string
	}{
		{"sign in: nobody", signIn("", ""), codes.InvalidArgument, problem.InvalidArgument},
		{"sign in: not a name", signIn("Ada Lovelace", ""), codes.InvalidArgument, problem.InvalidArgument},
		{"sign in: another key of Redis", signIn("person:ada", ""), codes.InvalidArgument, problem.InvalidArgument},
		{"sign in: previous token too long", signIn("ada", strings.Repeat("A", 129)), codes.InvalidArgument, problem.InvalidArgument},
		{"touch: no token", touch(""), codes.InvalidArgument, problem.InvalidArgument},
		{"touch: too long", touch(strings.Repeat("A", 129)), codes.InvalidArgument, problem.InvalidArgument},
		{"touch: malformed", touch("person:ada"), codes.Unauthenticated, problem.SessionInvalid},
		{"touch: forged", touch(forged), codes.Unauthenticated, problem.SessionInvalid},
		{"refresh: no token", refresh(""), codes.InvalidArgument, problem.InvalidArgument},
		{"refresh: forged", refresh(forged), codes.Unauthenticated, problem.SessionInvalid},
		{"revoke: no token", revoke(""), codes.InvalidArgument, problem.InvalidArgument},
		{"revoke all: nobody", revokeAll(""), codes.InvalidArgument, problem.InvalidArgument},
	} {
		t.Run(x.name, func(t *testing.T) { wantReason(t, x.err, x.code, x.reason) })
	}
	if err := signIn(person(), forged); err != nil {
		t.Errorf("a forged previous token stops a sign-in: %v", err)
	}
	if err := revoke(forged); err != nil {
		t.Errorf("revoking a forged token: %v", err)
	}
}

func TestExpiryOverRPC(t *testing.T) {
	c, _ := start(t, redisServer.Addr(), "SPILLWAY_SESSION_IDLE_TTL=100ms", "SPILLWAY_SESSION_ABSOLUTE_TTL=300ms")
	s, err := c.SignIn(t.Context(), &sessionv1.SignInRequest{PersonId: person()})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the session is over, though it is touched all the time", func(ctx context.Context) bool {
		_, err := c.Touch(ctx, &sessionv1.TouchRequest{Token: s.GetToken()})
		if err != nil {
			wantReason(t, err, codes.Unauthenticated, problem.SessionInvalid)
		}
		return err != nil
	})
}

// Whatever happens to a token, no log line and no metric has it.
func TestNoTokenInLogsAndMetrics(t *testing.T) {
	own := startRedis(t)
	c, r := start(t, own.Addr(), "SPILLWAY_LOG_LEVEL=debug", "SPILLWAY_TRACE_RATIO=1")
	ctx, who := t.Context(), person()
	first, err := c.SignIn(ctx, &sessionv1.SignInRequest{PersonId: who})
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Refresh(ctx, &sessionv1.RefreshRequest{Token: first.GetToken()})
	if err != nil {
		t.Fatal(err)
	}
	tooLong := second.GetToken() + strings.Repeat("Z", 100)
	secrets := []string{first.GetToken(), second.GetToken()}
	for _, token := range []string{first.GetToken(), second.GetToken(), tooLong} {
		touched, err := c.Touch(ctx, &sessionv1.TouchRequest{Token: token})
		if token == second.GetToken() != (err == nil) {
			t.Errorf("touch: %v, %v", touched, err)
		}
		if err != nil && contains(err.Error(), secrets) {
			t.Errorf("an error tells a token")
		}
	}
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Touch(ctx, &sessionv1.TouchRequest{Token: second.GetToken()})
	wantReason(t, err, codes.Unavailable, problem.DependencyAway)

	resp, err := http.Get("http://" + r.Addr("admin") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if !bytes.Contains(metrics, []byte("SessionService")) {
		t.Error("the metrics do not tell of the calls")
	}
	if contains(string(metrics), secrets) {
		t.Error("a metric tells a token")
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Logs(), "Touch") {
		t.Error("the log does not tell of the calls")
	}
	if contains(r.Logs(), secrets) {
		t.Errorf("the log tells a token")
	}
}

func contains(text string, secrets []string) bool {
	for _, s := range secrets {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

func startRedis(t *testing.T) *redistest.Server {
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

func TestRedisAwayOverRPC(t *testing.T) {
	own := startRedis(t)
	c, _ := start(t, own.Addr())
	ctx, who := t.Context(), person()
	s, err := c.SignIn(ctx, &sessionv1.SignInRequest{PersonId: who})
	if err != nil {
		t.Fatal(err)
	}
	token := s.GetToken()
	calls := map[string]func() error{
		"SignIn":    func() error { _, err := c.SignIn(ctx, &sessionv1.SignInRequest{PersonId: who}); return err },
		"Touch":     func() error { _, err := c.Touch(ctx, &sessionv1.TouchRequest{Token: token}); return err },
		"Refresh":   func() error { _, err := c.Refresh(ctx, &sessionv1.RefreshRequest{Token: token}); return err },
		"Revoke":    func() error { _, err := c.Revoke(ctx, &sessionv1.RevokeRequest{Token: token}); return err },
		"RevokeAll": func() error { _, err := c.RevokeAll(ctx, &sessionv1.RevokeAllRequest{PersonId: who}); return err },
	}
	away := func(state string) {
		for name, call := range calls {
			took := time.Hour
			for range 3 { // the best of three: a busy machine may hold one of them up
				start := time.Now()
				wantReason(t, call(), codes.Unavailable, problem.DependencyAway)
				if took = min(took, time.Since(start)); took <= 250*time.Millisecond {
					break
				}
			}
			if took > 250*time.Millisecond {
				t.Errorf("%s with Redis %s took %v", name, state, took)
			}
		}
	}
	if err := own.Pause(); err != nil {
		t.Fatal(err)
	}
	away("hanging")
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	away("gone")
	if err := own.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "sign-in works again", func(context.Context) bool { return calls["SignIn"]() == nil })
}

func TestConfiguration(t *testing.T) {
	for _, x := range []struct {
		env  []string
		says string
	}{
		{[]string{"SPILLWAY_SESSION_IDLE_TTL=0s"}, "SPILLWAY_SESSION_IDLE_TTL"},
		{[]string{"SPILLWAY_SESSION_IDLE_TTL=soon"}, "SPILLWAY_SESSION_IDLE_TTL"},
		{[]string{"SPILLWAY_SESSION_IDLE_TTL=2h", "SPILLWAY_SESSION_ABSOLUTE_TTL=1h"}, "SPILLWAY_SESSION_ABSOLUTE_TTL"},
		{[]string{"SPILLWAY_REDIS_ADDR=redis"}, "SPILLWAY_REDIS_ADDR"},
		{[]string{"SPILLWAY_SESSION_TTL=1h"}, "SPILLWAY_SESSION_TTL"},
	} {
		var stderr bytes.Buffer
		err := boot.Run(t.Context(), spec(), x.env, &stderr)
		if _, wrong := errors.AsType[*boot.ConfigError](err); !wrong || !strings.Contains(stderr.String(), x.says) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%v: %v, says %q", x.env, err, &stderr)
		}
	}
}

// Sessions in memory are one replica's: another does not know them, and they end with it. Redis need not be there.
func TestMemoryIsTheReplicasOwn(t *testing.T) {
	const nobody = "127.0.0.1:1"
	mine, one := start(t, nobody, "SPILLWAY_SESSION_STORE=memory")
	others, _ := start(t, nobody, "SPILLWAY_SESSION_STORE=memory")
	in, err := mine.SignIn(t.Context(), &sessionv1.SignInRequest{PersonId: person()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Touch(t.Context(), &sessionv1.TouchRequest{Token: in.GetToken()}); err != nil {
		t.Error(err)
	}
	_, err = others.Touch(t.Context(), &sessionv1.TouchRequest{Token: in.GetToken()})
	wantReason(t, err, codes.Unauthenticated, problem.SessionInvalid)
	resp, err := http.Get("http://" + one.Addr("admin") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), "\nspillway_session_held 1\n") {
		t.Errorf("the metrics do not tell of one session held, %v", err)
	}
}

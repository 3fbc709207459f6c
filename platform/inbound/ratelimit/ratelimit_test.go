package ratelimit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	together "spillway.dev/platform/ratelimit"
	"spillway.dev/platform/redistest"
	"spillway.dev/platform/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a limiter with its knobs and metrics, at an instant that the test moves.
type bench struct {
	*Limiter
	set *knobs.Set
	reg *prometheus.Registry
	at  time.Duration
}

func limiter(t testing.TB, global *together.Global) *bench {
	t.Helper()
	b := &bench{set: knobs.NewSet(), reg: prometheus.NewRegistry(), at: time.Hour}
	refused, err := refusal.New(b.reg)
	if err != nil {
		t.Fatal(err)
	}
	if b.Limiter, err = New(b.set, b.reg, refused, global); err != nil {
		t.Fatal(err)
	}
	b.now = func() time.Duration { return b.at }
	return b
}

// turn sets knobs, given as name and value in turn, and puts the others back.
func (b *bench) turn(t testing.TB, pairs ...string) {
	t.Helper()
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values["ratelimit."+pairs[i]] = pairs[i+1]
	}
	if err := b.set.Apply(values); err != nil {
		t.Fatal(err)
	}
}

func handler(context.Context, any) (any, error) { return "answer", nil }

// call makes one, and gives what refused it.
func (b *bench) call(ctx context.Context) error {
	_, err := b.Unary(ctx, nil, &grpc.UnaryServerInfo{}, handler)
	return err
}

// calls makes n calls and counts those that came in.
func (b *bench) calls(ctx context.Context, n int) (in int) {
	for range n {
		if b.call(ctx) == nil {
			in++
		}
	}
	return in
}

// decisions counts those of one source.
func (b *bench) decisions(source int) float64 {
	o := b.decided[source]
	return testutil.ToFloat64(o.admitted) + testutil.ToFloat64(o.refused[0]) + testutil.ToFloat64(o.refused[1])
}

// with gives a call's context with authorization metadata.
func with(ctx context.Context, authorization ...string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.MD{"authorization": authorization})
}

func TestOffByDefault(t *testing.T) {
	b := limiter(t, nil)
	if in := b.calls(t.Context(), 10_000); in != 10_000 {
		t.Errorf("%d of 10,000 calls came in", in)
	}
	b.turn(t, "per_second", "1", "burst", "1", "person_per_second", "1")
	if in := b.calls(with(t.Context(), "Bearer x"), 100); in != 100 {
		t.Errorf("with limits but no mode %d of 100 calls came in", in)
	}
}

func TestRateAndBurst(t *testing.T) {
	b := limiter(t, nil)
	b.turn(t, "mode", "replica", "per_second", "10", "burst", "4", "reserve", "0")
	if in := b.calls(t.Context(), 10); in != 4 {
		t.Errorf("of a burst of 10 came in %d, want 4", in)
	}
	b.at += 200 * time.Millisecond
	if in := b.calls(t.Context(), 10); in != 2 {
		t.Errorf("200 ms later came in %d, want 2", in)
	}
	err := b.call(t.Context())
	p := problem.From(err)
	if p.Code != codes.ResourceExhausted || p.Reason != problem.RateLimited || !p.Retryable ||
		p.RetryAfter != 100*time.Millisecond || p.Metadata["limit"] != "service" || p.Metadata["by"] != "ratelimit" {
		t.Errorf("refused with %+v", p)
	}
	if sent := problem.From(status.FromProto(p.GRPCStatus().Proto()).Err()); sent.RetryAfter != p.RetryAfter || sent.Metadata["limit"] != "service" {
		t.Errorf("what is sent is %+v", sent)
	}
	b.at += p.RetryAfter
	if err := b.call(t.Context()); err != nil {
		t.Errorf("after the time that was told: %v", err)
	}

	b.turn(t, "mode", "replica", "per_second", "1000")
	b.at += time.Minute
	if in := b.calls(criticality.With(t.Context(), criticality.Critical, 0), 2000); in != 1000 {
		t.Errorf("without a burst of its own, and a new rate, came in %d, want a second's 1000", in)
	}
	b.turn(t)
	if in := b.calls(t.Context(), 100); in != 100 {
		t.Errorf("turned off, %d of 100 came in", in)
	}
}

func TestTheUrgentFindRoom(t *testing.T) {
	b := limiter(t, nil)
	b.turn(t, "mode", "replica", "per_second", "10", "burst", "20", "reserve", "0.2")
	var of [criticality.Classes]context.Context
	for class := range of {
		of[class] = criticality.With(t.Context(), criticality.Class(class), 0)
	}
	if in := b.calls(of[criticality.Sheddable], 50); in != 12 {
		t.Errorf("%d sheddable calls came in, want 12: they leave 8 of 20", in)
	}
	if in := b.calls(of[criticality.Standard], 50); in != 4 {
		t.Errorf("then %d standard calls, want 4: they leave 4", in)
	}
	if in := b.calls(of[criticality.Critical], 50); in != 4 {
		t.Errorf("then %d critical calls, want the last 4", in)
	}
	err := testutil.GatherAndCompare(b.reg, strings.NewReader(`
# HELP spillway_refused_total Calls refused on purpose, by the protection that refused, the call's class, and the dependency that it was meant for; callee is empty for calls into this service.
# TYPE spillway_refused_total counter
spillway_refused_total{by="ratelimit",callee="",priority="critical"} 46
spillway_refused_total{by="ratelimit",callee="",priority="sheddable"} 38
spillway_refused_total{by="ratelimit",callee="",priority="standard"} 46
# HELP spillway_ratelimit_decisions_total Calls that a rate limit decided on, by who decided (the replica by itself, Redis for all replicas, or the replica's allowance while Redis is away) and outcome.
# TYPE spillway_ratelimit_decisions_total counter
spillway_ratelimit_decisions_total{outcome="admitted",source="allowance"} 0
spillway_ratelimit_decisions_total{outcome="admitted",source="redis"} 0
spillway_ratelimit_decisions_total{outcome="admitted",source="replica"} 20
spillway_ratelimit_decisions_total{outcome="refused_person",source="allowance"} 0
spillway_ratelimit_decisions_total{outcome="refused_person",source="redis"} 0
spillway_ratelimit_decisions_total{outcome="refused_person",source="replica"} 0
spillway_ratelimit_decisions_total{outcome="refused_service",source="allowance"} 0
spillway_ratelimit_decisions_total{outcome="refused_service",source="redis"} 0
spillway_ratelimit_decisions_total{outcome="refused_service",source="replica"} 130
`), "spillway_refused_total", "spillway_ratelimit_decisions_total")
	if err != nil {
		t.Error(err)
	}

	b.at += time.Minute
	b.turn(t, "mode", "replica", "per_second", "10", "burst", "2", "reserve", "0.2")
	if in := b.calls(of[criticality.Sheddable], 50); in != 2 {
		t.Errorf("of a burst too small to be divided %d calls came in, want 2", in)
	}
}

// TestOnePerson: however a session's token is written, its calls are one person's; others, and those without, have room.
func TestOnePerson(t *testing.T) {
	b := limiter(t, nil)
	b.turn(t, "mode", "replica", "per_second", "1000", "person_per_second", "1")
	in := 0
	for i, authorization := range [][]string{
		{"Bearer secret"}, {"bearer secret"}, {"BEARER   secret "}, {"Basic eA==", "Bearer secret"}, {"Bearer secret", "Bearer secret"},
		{"Bearer 0123456789abcdef.secret"}, {"Bearer standard-1529cc18.secret"}, {"Bearer a.b.c.secret"},
	} {
		err := b.call(with(t.Context(), authorization...))
		if err == nil {
			in++
		} else if p := problem.From(err); p.Metadata["limit"] != "person" || p.Reason != problem.RateLimited || p.RetryAfter != time.Second {
			t.Errorf("call %d refused with %+v", i, p)
		}
	}
	if in != 5 {
		t.Errorf("%d calls of one session came in, want 5: five seconds' worth", in)
	}
	if got := b.calls(with(t.Context(), "Bearer other"), 10); got != 5 {
		t.Errorf("%d calls of another came in, want 5", got)
	}
	for name, ctx := range map[string]context.Context{
		"none": t.Context(), "two sessions": with(t.Context(), "Bearer a", "Bearer b"), "another scheme": with(t.Context(), "Basic secret"),
	} {
		if got := b.calls(ctx, 10); got != 10 {
			t.Errorf("with %s %d calls of 10 came in", name, got)
		}
	}
}

func TestModesAreThoseThatThereAre(t *testing.T) {
	b := limiter(t, nil)
	err := b.set.Apply(map[string]string{"ratelimit.mode": "global"})
	if err == nil || !strings.Contains(err.Error(), `knob ratelimit.mode: value "global" is not allowed, give off, replica`) {
		t.Errorf("without a Redis for it mode global gives %v", err)
	}
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

func TestAStreamIsOneCall(t *testing.T) {
	b := limiter(t, nil)
	b.turn(t, "mode", "replica", "per_second", "1", "burst", "2")
	handled := 0
	for i := range 5 {
		err := b.Stream(nil, stream{ctx: t.Context()}, &grpc.StreamServerInfo{}, func(any, grpc.ServerStream) error { handled++; return nil })
		if (err == nil) != (i < 2) || err != nil && problem.Reason(err) != problem.RateLimited {
			t.Fatalf("%v", err)
		}
	}
	if handled != 2 {
		t.Errorf("%d streams came in, want 2", handled)
	}
}

// TestGlobal: two replicas of a service share one limit, and each of its people has one; tokens are not what is stored.
func TestGlobal(t *testing.T) {
	server, err := redistest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2, MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer rdb.Close()

	var replicas [2]*bench
	for i := range replicas {
		replicas[i] = limiter(t, together.NewGlobal("gateway", rdb, func() int { return 2 }))
		replicas[i].turn(t, "mode", "global", "per_second", "0.1", "burst", "30", "reserve", "0", "person_per_second", "0.001")
	}
	// A busy machine may have the allowance decide now and then; a call is made anew until Redis has decided on it.
	begin := time.Now()
	call := func(r *bench, ctx context.Context) {
		t.Helper()
		for before := r.decisions(byRedis); r.decisions(byRedis) == before; {
			if time.Since(begin) > time.Minute {
				t.Fatal("Redis does not decide")
			}
			_ = r.call(ctx)
		}
	}
	for i := range 40 {
		for range 2 {
			call(replicas[i%2], with(t.Context(), fmt.Sprint("Bearer secret", i)))
		}
	}
	of := func(c func(o *outcomes) prometheus.Counter) float64 {
		return testutil.ToFloat64(c(&replicas[0].decided[byRedis])) + testutil.ToFloat64(c(&replicas[1].decided[byRedis]))
	}
	in := of(func(o *outcomes) prometheus.Counter { return o.admitted })
	// A call whose answer came too late was let in by Redis and not counted here.
	if undisturbed := replicas[0].decisions(byAllowance)+replicas[1].decisions(byAllowance) == 0; in > 30 || undisturbed && in < 30 {
		t.Errorf("%v calls came in by Redis, want 30", in)
	}
	if of(func(o *outcomes) prometheus.Counter { return o.refused[0] }) == 0 || of(func(o *outcomes) prometheus.Counter { return o.refused[1] }) == 0 {
		t.Error("by Redis nobody was refused for one of the limits")
	}
	keys, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) < 2 {
		t.Fatalf("keys %q, %v", keys, err)
	}
	for _, key := range keys {
		if strings.Contains(key, "secret") || !strings.HasPrefix(key, "ratelimit:{gateway}:") {
			t.Errorf("Redis has key %q", key)
		}
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	before := replicas[0].decisions(byAllowance)
	replicas[0].calls(t.Context(), 10)
	if n := replicas[0].decisions(byAllowance) - before; n != 10 {
		t.Errorf("without Redis %v calls of 10 were decided by the allowance", n)
	}
}

// TestAnswers: of the waits that are told, each is the first that is long enough.
func TestAnswers(t *testing.T) {
	for wait, want := range map[time.Duration]time.Duration{
		1: 10 * time.Millisecond, 10 * time.Millisecond: 10 * time.Millisecond, 10*time.Millisecond + 1: 25 * time.Millisecond,
		time.Minute + 1: time.Hour, 1000 * time.Hour: time.Hour,
	} {
		for by := range answers {
			if got := answer(by, wait).RetryAfter; got != want {
				t.Errorf("who has to wait %v is told %v, want %v", wait, got, want)
			}
		}
	}
}

// TestDecidingAllocatesNothing: neither off, nor for a call that comes in, nor for one that is refused.
func TestDecidingAllocatesNothing(t *testing.T) {
	b := limiter(t, nil)
	ctx := t.Context()
	for _, c := range []struct {
		name  string
		knobs []string
	}{
		{"off", nil},
		{"on", []string{"mode", "replica", "per_second", "100000", "burst", "1000000"}},
		{"refused", []string{"mode", "replica", "per_second", "0.1", "burst", "1"}},
	} {
		b.turn(t, c.knobs...)
		if n := testing.AllocsPerRun(1000, func() { _ = b.call(ctx) }); n > 0 {
			t.Errorf("%s: %v allocations a call", c.name, n)
		}
	}
}

// FuzzWhose: no metadata makes a key that holds the token, or one that is no key; nor a panic.
func FuzzWhose(f *testing.F) {
	f.Add("Bearer secret-token", "")
	f.Add("bearer standard-1529cc18.dG9rZW4", "Bearer x")
	f.Add("Bearer .", "Basic x")
	f.Fuzz(func(t *testing.T, one, two string) {
		key := whose(with(t.Context(), one, two))
		if key == "" {
			return
		}
		sum, ok := strings.CutPrefix(key, "person:")
		if !ok || len(sum) != 32 || strings.Trim(sum, "0123456789abcdef") != "" {
			t.Fatalf("key %q", key)
		}
	})
}

func BenchmarkUnary(b *testing.B) {
	ctx := criticality.With(with(context.Background(), "Bearer standard-1529cc18.dG9rZW4"), criticality.Standard, 5)
	for _, c := range []struct {
		name  string
		knobs []string
	}{
		{"off", nil},
		{"admitted", []string{"mode", "replica", "per_second", "100000", "burst", "1000000"}},
		{"refused", []string{"mode", "replica", "per_second", "0.1", "burst", "1"}},
		{"person", []string{"mode", "replica", "per_second", "100000", "burst", "1000000", "person_per_second", "1000"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := limiter(b, nil)
			l.turn(b, c.knobs...)
			step := time.Duration(0)
			if c.name != "refused" {
				step = 20 * time.Microsecond
			}
			b.ReportAllocs()
			for b.Loop() {
				l.at += step
				_ = l.call(ctx)
			}
		})
	}
}

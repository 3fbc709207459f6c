package ratelimit

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	redisrate "github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"spillway.dev/platform/gcra"
)

// rarely is so low a rate that no test waits for it: a limit is its burst.
func rarely(burst float64) gcra.Limit { return gcra.PerSecond(1./3600, burst) }

// virtual is the script by a clock that the test sets: the last two arguments are what TIME gives.
var virtual = redis.NewScript(strings.Replace(source, `redis.call('TIME')`, `{ARGV[#ARGV - 1], ARGV[#ARGV]}`, 1))

// TestTheScriptDecidesAsTheModel: at the same times, with the same limits, of one, two or three at once, the script and
// package gcra let the same calls in, have the others wait equally long, and for the same limit.
func TestTheScriptDecidesAsTheModel(t *testing.T) {
	rdb := shared(t)
	// Whole seconds, since what Redis keeps expires by its real clock.
	base := time.Unix(1_800_000_000, 0)
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		var limits [3]gcra.Limit
		for i := range limits {
			limits[i] = gcra.Limit{Interval: time.Duration(10+random.IntN(600)) * time.Second}
			limits[i].Tolerance = time.Duration(random.IntN(6)) * limits[i].Interval
		}
		model, now := gcra.NewLimiter(), time.Duration(0)
		for step := range 60 {
			now += time.Duration(random.IntN(200_000_000)) * time.Microsecond
			if random.IntN(30) == 0 { // what is owed may be far more than the new limit allows
				limits[0].Interval = time.Duration(10+random.IntN(600)) * time.Second
				limits[0].Tolerance = time.Duration(random.IntN(6)) * limits[0].Interval
			}
			var asks []gcra.Ask
			var keys []string
			var args []any
			for i, key := range []string{"a", "b", "c"}[:1+random.IntN(3)] {
				ask := gcra.Ask{Key: key, Limit: limits[i], Leave: time.Duration(random.IntN(3)) * limits[i].Interval}
				asks = append(asks, ask)
				keys = append(keys, "model:{"+string(rune('A'+seed))+"}:"+key)
				args = append(args, ticks(ask.Limit.Interval), ticks(ask.Limit.Tolerance), ticks(ask.Leave))
			}
			at := base.Add(now)
			reply, err := virtual.Run(t.Context(), rdb, keys, append(args, at.Unix(), at.Nanosecond()/1000)...).Int64Slice()
			if err != nil {
				t.Fatal(err)
			}
			wait, by := model.Admit(now, asks...)
			if time.Duration(reply[0])*tick != wait || wait > 0 && int(reply[1]) != by+1 {
				t.Fatalf("seed %d, step %d: the script says %v for limit %d, the model %v for limit %d", seed, step,
					time.Duration(reply[0])*tick, reply[1]-1, wait, by)
			}
		}
	}
}

// TestTheOtherRedisLibrary: with one limit, what comes in and how long others wait is as go-redis/redis_rate has it.
func TestTheOtherRedisLibrary(t *testing.T) {
	rdb := shared(t)
	g, other := unhurried(NewGlobal("other", rdb, alone)), redisrate.NewLimiter(rdb)
	ask := gcra.Ask{Key: "all", Limit: rarely(7)}
	for i := range 20 {
		theirs, err := other.Allow(t.Context(), "other", redisrate.Limit{Rate: 1, Burst: 7, Period: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ours := g.Admit(t.Context(), ask)
		if ours.Source != Redis {
			t.Fatalf("call %d was decided without Redis", i)
		}
		if (theirs.Allowed == 1) != (ours.Wait == 0) {
			t.Fatalf("call %d: ours waits %v, theirs %v", i, ours.Wait, theirs.RetryAfter)
		}
		if d := ours.Wait - theirs.RetryAfter; ours.Wait > 0 && d.Abs() > time.Minute {
			t.Errorf("call %d: ours waits %v, theirs %v", i, ours.Wait, theirs.RetryAfter)
		}
	}
}

// TestTogetherNeverMore: replicas that ask at once, as fast as they can, get no more than burst and rate by Redis.
func TestTogetherNeverMore(t *testing.T) {
	const replicas, callers, calls, burst, perSecond = 6, 4, 150, 40, 500
	limit := gcra.PerSecond(perSecond, burst)
	shared(t)
	var in atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range replicas {
		g := unhurried(NewGlobal("together", client(t, server.Addr()), func() int { return replicas }))
		// Clocks that differ by hours make no difference.
		clock := g.now
		g.now = func() time.Duration { return clock() + time.Duration(i)*time.Hour }
		for range callers {
			wg.Go(func() {
				for range calls {
					v := g.Admit(t.Context(), gcra.Ask{Key: "all", Limit: limit})
					if v.Source != Redis {
						t.Error("a call was decided without Redis")
					}
					if v.Wait == 0 {
						in.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	// Two clocks: a second one may be ahead by what it is finer or was set.
	most := burst + int64(float64(perSecond)*(time.Since(begin).Seconds()+0.01)) + 1
	if got := in.Load(); got > most || got < burst {
		t.Errorf("%d calls came in, want %d to %d", got, burst, most)
	}
}

// TestOneCallManyLimits: of a service's and a person's limit a refused call costs neither, and by tells which refused.
func TestOneCallManyLimits(t *testing.T) {
	counted := &asked{Scripter: shared(t)}
	g := unhurried(NewGlobal("many", counted, alone))
	all, ann, bob := gcra.Ask{Key: "all", Limit: rarely(5)}, gcra.Ask{Key: "ann", Limit: rarely(2)}, gcra.Ask{Key: "bob", Limit: rarely(9)}
	for i, c := range []struct {
		who gcra.Ask
		in  bool
		by  int
	}{{ann, true, 0}, {ann, true, 0}, {ann, false, 1}, {ann, false, 1}, {bob, true, 0}, {bob, true, 0}, {bob, true, 0}, {bob, false, 0}} {
		v := g.Admit(t.Context(), all, c.who)
		if (v.Wait == 0) != c.in || v.By != c.by || v.Source != Redis {
			t.Errorf("call %d by %s: %+v, want in=%v by limit %d", i, c.who.Key, v, c.in, c.by)
		}
	}
	if n := counted.n.Load(); n != 8 {
		t.Errorf("8 calls took %d round trips", n)
	}
	// Whoever leaves some to others is refused first. A limit that is none is not asked about, nor counted.
	g.Admit(t.Context(), gcra.Ask{Key: "left", Limit: rarely(2)})
	if v := g.Admit(t.Context(), gcra.Ask{}, gcra.Ask{Key: "left", Limit: rarely(2), Leave: time.Hour}); v.Wait == 0 || v.By != 1 {
		t.Errorf("who leaves one of two calls gets the second: %+v", v)
	}
	if v := g.Admit(t.Context(), gcra.Ask{}); v != (Verdict{}) {
		t.Errorf("without a limit: %+v", v)
	}
}

// TestKeys: state is in one slot of a cluster, and gone when it says nothing more.
func TestKeys(t *testing.T) {
	rdb := shared(t)
	g := unhurried(NewGlobal("a>b", rdb, alone))
	g.Admit(t.Context(), gcra.Ask{Key: "all", Limit: gcra.PerSecond(1, 100)}, gcra.Ask{Key: "person:1", Limit: rarely(3)})
	for key, most := range map[string]time.Duration{"ratelimit:{a>b}:all": time.Second, "ratelimit:{a>b}:person:1": time.Hour} {
		left, err := rdb.PTTL(t.Context(), key).Result()
		if err != nil || left <= 0 || left > most {
			t.Errorf("%s is there for %v (%v), want up to %v", key, left, err, most)
		}
	}
}

// TestAnEndedCallIsDecided: a caller whose time is over makes Redis no worse, neither in this replica's eyes nor by a
// connection that is given up.
func TestAnEndedCallIsDecided(t *testing.T) {
	rdb := shared(t)
	g := unhurried(NewGlobal("ended", rdb, alone))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if v := g.Admit(ended, gcra.Ask{Key: "all", Limit: rarely(100)}); v.Source != Redis || v.Wait != 0 {
			t.Fatalf("%+v", v)
		}
	}
	if s := rdb.PoolStats(); s.StaleConns != 0 || s.TotalConns != 1 {
		t.Errorf("after that the pool is %+v", s)
	}
}

// TestScriptsFlushed: a Redis that has forgotten the script gets it again within the call.
func TestScriptsFlushed(t *testing.T) {
	s := own(t)
	rdb := client(t, s.Addr())
	g := unhurried(NewGlobal("flushed", rdb, alone))
	for range 3 {
		if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if v := g.Admit(t.Context(), gcra.Ask{Key: "all", Limit: rarely(3)}); v.Source != Redis || v.Wait != 0 {
			t.Errorf("%+v", v)
		}
	}
}

func BenchmarkGlobal(b *testing.B) {
	g := unhurried(NewGlobal("bench", shared(b), alone))
	all, one := gcra.Ask{Key: "all", Limit: gcra.PerSecond(1000, 1000)}, gcra.Ask{Key: "one", Limit: gcra.PerSecond(1000, 1000)}
	for name, asks := range map[string][]gcra.Ask{"one": {all}, "two": {all, one}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.Admit(b.Context(), asks...)
			}
		})
	}
}

func BenchmarkBareRedisRate(b *testing.B) {
	l := redisrate.NewLimiter(shared(b))
	limit := redisrate.PerSecond(1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Allow(b.Context(), "bench", limit); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareGet is what a round trip costs whatever is asked.
func BenchmarkBareGet(b *testing.B) {
	rdb := shared(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := rdb.Get(b.Context(), "nothing").Err(); err != redis.Nil {
			b.Fatal(err)
		}
	}
}

package ratelimit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway.dev/platform/gcra"
)

// TestLosesItsMemory: through a Redis that dies, comes back without its memory, stops and goes on, calls come in all the
// time; by Redis no more than burst and rate for each of its lives, by the allowances no more than that in all.
func TestLosesItsMemory(t *testing.T) {
	s := own(t)
	const replicas, burst, perSecond = 4, 20, 400
	limit := gcra.PerSecond(perSecond, burst)
	ask := gcra.Ask{Key: "all", Limit: limit}
	var in [2]atomic.Int64 // by source
	done := make(chan struct{})
	var wg sync.WaitGroup
	begin := time.Now()
	for range replicas {
		g := NewGlobal("dies", client(t, s.Addr()), func() int { return replicas })
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if v := g.Admit(t.Context(), ask); v.Wait == 0 {
						in[v.Source].Add(1)
					} else {
						wait(min(v.Wait, 2*time.Millisecond), done)
					}
				}
			})
		}
	}
	// Until that many more have come in by that source.
	more := func(source Source, n int64) {
		t.Helper()
		for want := in[source].Load() + n; in[source].Load() < want; {
			if time.Since(begin) > time.Minute {
				t.Fatalf("by source %d no more calls come in: %d by Redis, %d by allowances", source, in[Redis].Load(), in[Allowance].Load())
			}
			wait(time.Millisecond, done)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lives := int64(1)
	func() {
		defer wg.Wait()
		defer close(done)
		more(Redis, 60)
		must(s.Kill())
		more(Allowance, 60)
		must(s.Restart())
		lives++
		more(Redis, 60)
		must(s.Pause())
		more(Allowance, 60)
		must(s.Resume())
		more(Redis, 60)
	}()
	took := time.Since(begin).Seconds() + 0.01
	if got, most := in[Redis].Load(), lives*burst+int64(perSecond*took)+1; got > most {
		t.Errorf("%d calls came in by Redis within %.1f s, want at most %d", got, took, most)
	}
	if got, most := in[Allowance].Load(), burst+int64(perSecond*took)+replicas; got > most {
		t.Errorf("%d calls came in by allowances within %.1f s, want at most %d", got, took, most)
	}
}

// wait waits for d, or less when done is closed.
func wait(d time.Duration, done <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}

// TestADeadRedisIsLeftAlone: after a few calls in a row without an answer Redis is asked by one call in each pause.
func TestADeadRedisIsLeftAlone(t *testing.T) {
	s := own(t)
	counted := &asked{Scripter: client(t, s.Addr())}
	g := NewGlobal("alone", counted, alone)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 20_000 {
		if v := g.Admit(t.Context(), gcra.Ask{Key: "all", Limit: rarely(5)}); v.Source != Allowance {
			t.Fatalf("a dead Redis decided: %+v", v)
		}
	}
	most := int64(away + 1 + time.Since(begin)/pause)
	if n := counted.n.Load(); n < away || n > most {
		t.Errorf("a dead Redis was asked %d times in %v, want %d to %d", n, time.Since(begin), away, most)
	}
}

// TestAllowanceIsAShareOfWhatIsLeft: a replica that is one of two has half of the burst, less what it used just now.
func TestAllowanceIsAShareOfWhatIsLeft(t *testing.T) {
	s := own(t)
	rdb := client(t, s.Addr())
	two := func() int { return 2 }
	ask := gcra.Ask{Key: "all", Limit: rarely(10)}
	used, idle := unhurried(NewGlobal("share", rdb, two)), unhurried(NewGlobal("share", rdb, two))
	for range 3 {
		if v := used.Admit(t.Context(), ask); v.Source != Redis || v.Wait != 0 {
			t.Fatalf("%+v", v)
		}
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		g    *Global
		want int
	}{"that used 3": {used, 2}, "that used none": {idle, 5}} {
		in := 0
		for range 20 {
			v := c.g.Admit(t.Context(), ask)
			if v.Source != Allowance {
				t.Fatalf("a dead Redis decided: %+v", v)
			}
			if v.Wait == 0 {
				in++
			}
		}
		if in != c.want {
			t.Errorf("the replica %s lets %d of 10 calls in by itself as one of two, want %d", name, in, c.want)
		}
	}
}

// TestNobodyWaitsLongerThanPatience: a stopped Redis takes what it is sent and says nothing.
func TestNobodyWaitsLongerThanPatience(t *testing.T) {
	s := own(t)
	counted := &asked{Scripter: client(t, s.Addr())}
	g := NewGlobal("stopped", counted, alone)
	ask := gcra.Ask{Key: "all", Limit: rarely(1e6)}
	until := func(source Source) {
		t.Helper()
		for begin := time.Now(); g.Admit(t.Context(), ask).Source != source; {
			if time.Since(begin) > time.Minute {
				t.Fatalf("calls are not decided by source %d", source)
			}
			wait(time.Millisecond, nil)
		}
	}
	until(Redis)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	until(Allowance)
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	until(Redis)
	if given := time.Duration(counted.longest.Load()); given > Patience {
		t.Errorf("Redis was given %v for an answer, want at most %v", given, Patience)
	}
}

package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// front is a station with a queue in front of it, as the chain has them.
type front struct {
	queue    *Queue
	station  *capacity.Station
	knobs    *knobs.Set
	registry *prometheus.Registry
	// notice is how long after its finish a call notices that it is over; nil for at once. That is what a busy host does.
	notice func() time.Duration
}

func newFront(t testing.TB, config capacity.Config, values map[string]string) *front {
	t.Helper()
	f := &front{knobs: knobs.NewSet(), registry: prometheus.NewPedanticRegistry()}
	refused, err := refusal.New(f.registry)
	if err != nil {
		t.Fatal(err)
	}
	if f.station, err = capacity.New(config, f.registry); err != nil {
		t.Fatal(err)
	}
	if f.queue, err = New(f.knobs, f.registry, refused, f.station); err != nil {
		t.Fatal(err)
	}
	f.set(t, values)
	return f
}

func (f *front) set(t testing.TB, values map[string]string) {
	t.Helper()
	if err := f.knobs.Apply(values); err != nil {
		t.Fatal(err)
	}
}

// call takes a call through queue and station.
func (f *front) call(ctx context.Context) (visit capacity.Visit, err error) {
	_, err = f.queue.Unary(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
		arrived := time.Now()
		if c, ok := ctx.Value(key{}).(*call); ok {
			arrived = c.arrived
		}
		var err error
		visit, err = f.station.Serve(ctx, arrived)
		if f.notice != nil && err == nil {
			late := f.notice()
			time.Sleep(late)
			visit.Lateness += late
		}
		f.queue.Leave(ctx, visit.Lateness)
		return nil, err
	})
	return visit, err
}

// idle checks that nobody is in line or past it.
func (f *front) idle(t *testing.T) {
	t.Helper()
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	if f.queue.line.length != 0 || f.queue.line.past != 0 {
		t.Errorf("%d wait and %d are past when all calls have ended", f.queue.line.length, f.queue.line.past)
	}
}

// refusedBy is the refusal of the queue, with the message that starts so.
func refusedBy(err error, message string) bool {
	p, ok := errors.AsType[*problem.Problem](err)
	return ok && p.Reason == problem.Overloaded && p.Metadata[refusal.ByKey] == "queue" && p.Retryable && p.RetryAfter > 0 &&
		strings.HasPrefix(p.Message, message)
}

const constant50 = 50 * time.Millisecond

func one() capacity.Config {
	return capacity.Config{Slots: 1, ServiceTime: constant50, Distribution: capacity.Constant}
}

// TestALineInFrontChangesNoWait sends the same Poisson arrivals to a bare station and to one behind a queue: every call
// must be back at the same nanosecond. The bubble's clock has no jitter.
func TestALineInFrontChangesNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := capacity.Config{Slots: 3, ServiceTime: 50 * ms, Distribution: capacity.Exponential, Seed: 7}
		bare, err := capacity.New(config, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		f := newFront(t, config, map[string]string{"queue.mode": "fifo", "queue.limit": "10000"})
		random := rand.New(rand.NewPCG(5, 5))
		const calls = 3000
		var back [calls][2]time.Time
		var waited atomic.Int64
		var callers sync.WaitGroup
		for i := range calls {
			time.Sleep(time.Duration(random.ExpFloat64() * float64(50*ms) / 3 / 0.9)) // ρ = 0.9
			callers.Go(func() {
				visit, err := bare.Serve(t.Context(), time.Now())
				if err != nil {
					t.Error(err)
				}
				if visit.Wait > 0 {
					waited.Add(1)
				}
				back[i][0] = time.Now()
			})
			callers.Go(func() {
				if _, err := f.call(t.Context()); err != nil {
					t.Error(err)
				}
				back[i][1] = time.Now()
			})
			synctest.Wait()
		}
		callers.Wait()
		for i, b := range back {
			if !b[0].Equal(b[1]) {
				t.Fatalf("call %d is back at %v from the station and %v later from behind the line", i, b[0], b[1].Sub(b[0]))
			}
		}
		if waited.Load() < calls/4 {
			t.Errorf("only %d of %d calls waited, the test shows nothing", waited.Load(), calls)
		}
		f.idle(t)
	})
}

// TestLateHandsWasteNoCapacity: at twice the load that the slots can serve, on a host that notices the end of each visit
// up to 4 ms late, the slots lose less than 2 % of their time.
func TestLateHandsWasteNoCapacity(t *testing.T) {
	for _, m := range []mode{fifo, newestFirst} {
		t.Run(string(m), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := capacity.Config{Slots: 5, ServiceTime: 20 * ms, Distribution: capacity.Exponential, Seed: 3}
				f := newFront(t, config, map[string]string{"queue.mode": string(m), "queue.limit": "50"})
				random := rand.New(rand.NewPCG(1, 9))
				var mu sync.Mutex
				f.notice = func() time.Duration {
					mu.Lock()
					defer mu.Unlock()
					return time.Duration(random.Float64() * float64(4*ms))
				}
				var served time.Duration
				var callers sync.WaitGroup
				begin, arrivals := time.Now(), rand.New(rand.NewPCG(2, 2))
				for time.Since(begin) < 30*time.Second {
					time.Sleep(time.Duration(arrivals.ExpFloat64() * float64(2*ms))) // 500/s for 250/s
					callers.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						defer cancel()
						if visit, err := f.call(ctx); err == nil {
							mu.Lock()
							defer mu.Unlock()
							served += visit.Service
						}
					})
				}
				callers.Wait()
				if busy := float64(served) / float64(5*time.Since(begin)); busy < 0.98 || busy > 1 {
					t.Errorf("the slots were busy for %.4f of the time", busy)
				} else {
					t.Logf("the slots were busy for %.4f of the time", busy)
				}
				f.idle(t)
			})
		})
	}
}

// TestOnTheRealClock: what waits is served at the rate of the slots, and no faster.
func TestOnTheRealClock(t *testing.T) {
	const calls, slots = 300, 5
	f := newFront(t, capacity.Config{Slots: slots, ServiceTime: 10 * ms, Distribution: capacity.Constant},
		map[string]string{"queue.mode": "fifo", "queue.limit": "1000"})
	var callers sync.WaitGroup
	var mu sync.Mutex
	var last time.Time // virtual finish
	begin := time.Now()
	for range calls {
		callers.Go(func() {
			visit, err := f.call(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if finish := time.Now().Add(-visit.Lateness); finish.After(last) {
				last = finish
			}
		})
	}
	callers.Wait()
	took, want := last.Sub(begin), calls/slots*10*ms
	if took < want {
		t.Errorf("%d calls took %v, the slots cannot do that in less than %v", calls, took, want)
	}
	t.Logf("%d calls took %v where the slots need %v: %+.2f %%", calls, took, want, 100*(took.Seconds()/want.Seconds()-1))
	f.idle(t)
}

func TestWhoGivesUpLeavesTheLineAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, one(), map[string]string{"queue.mode": "fifo"})
		var callers sync.WaitGroup
		defer callers.Wait()
		callers.Go(func() {
			if _, err := f.call(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		callers.Go(func() {
			if _, err := f.call(ctx); !errors.Is(err, context.Canceled) || time.Since(begin) != 10*ms {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
		})
		callers.Go(func() {
			if visit, err := f.call(t.Context()); err != nil || time.Since(begin) != 2*constant50 {
				t.Errorf("the one behind is back after %v: %v, %v", time.Since(begin), visit, err)
			}
		})
		time.Sleep(10 * ms)
		if n, wait := f.queue.length(), f.queue.Wait(time.Now()); n != 2 || wait != 10*ms {
			t.Errorf("%d wait, the first for %v; want 2 and 10ms", n, wait)
		}
		cancel()
		synctest.Wait()
		if n := f.queue.length(); n != 1 {
			t.Errorf("%d wait after one of two gave up", n)
		}
		callers.Wait()
		f.idle(t)
		if wait := f.queue.Wait(time.Now()); wait != 0 {
			t.Errorf("nobody waits for %v", wait)
		}
	})
}

func TestRefusalsSayWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, one(), map[string]string{"queue.mode": "newest-first", "queue.limit": "2"})
		results := make(chan string, 10)
		start := func(name string, class criticality.Class, timeout time.Duration) {
			go func() {
				ctx, cancel := context.WithTimeout(criticality.With(t.Context(), class, 0), timeout)
				defer cancel()
				begin := time.Now()
				_, err := f.call(ctx)
				said := "served"
				switch {
				case refusedBy(err, "as many"):
					said = "full"
				case refusedBy(err, "too many"):
					said = "late"
				case refusedBy(err, "more calls"):
					said = "stale"
				case err != nil:
					said = err.Error()
				}
				results <- name + " " + said + " after " + time.Since(begin).String()
			}()
			synctest.Wait()
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			for _, w := range want {
				select {
				case got := <-results:
					if got != w {
						t.Errorf("got %q, want %q", got, w)
					}
				default:
					t.Errorf("got nothing, want %q", w)
				}
			}
			select {
			case got := <-results:
				t.Errorf("got %q too", got)
			default:
			}
		}
		start("at work", criticality.Standard, time.Hour)
		start("hurried", criticality.Standard, 100*ms-1)
		expect("hurried late after 0s")
		start("first", criticality.Sheddable, time.Hour)
		start("second", criticality.Standard, time.Hour)
		start("third", criticality.Critical, time.Hour)
		expect("third full after 0s")

		// The only slot is occupied for long, so the line stands.
		f.station.Occupy(t.Context(), 1, 10*time.Second)
		time.Sleep(constant50)
		expect("at work served after 50ms")
		start("fourth", criticality.Critical, time.Hour) // first has the turn, so there is room
		time.Sleep(450*ms + 1)
		expect("second stale after 500ms") // after longest, with fourth behind it
		time.Sleep(ms)
		start("fifth", criticality.Standard, time.Hour)
		start("sixth", criticality.Sheddable, time.Hour)
		expect("sixth full after 0s")
		start("seventh", criticality.Critical, time.Hour)
		expect("fifth stale after 0s") // dropped for a more urgent one
		time.Sleep(constant50)
		expect("fourth stale after 500ms", "seventh stale after 50ms")
		time.Sleep(time.Minute)
		expect("first served after 10.1s")
		f.idle(t)

		want := `
			# HELP spillway_refused_total Calls refused on purpose, by the protection that refused, the call's class, and the dependency that it was meant for; callee is empty for calls into this service.
			# TYPE spillway_refused_total counter
			spillway_refused_total{by="queue",callee="",priority="critical"} 3
			spillway_refused_total{by="queue",callee="",priority="sheddable"} 1
			spillway_refused_total{by="queue",callee="",priority="standard"} 3
			# HELP spillway_queue_length Calls that wait in line in front of the slots.
			# TYPE spillway_queue_length gauge
			spillway_queue_length 0
		`
		if err := testutil.GatherAndCompare(f.registry, strings.NewReader(want), "spillway_refused_total", "spillway_queue_length"); err != nil {
			t.Error(err)
		}
		if n := testutil.CollectAndCount(f.queue.waited); n != 1 {
			t.Errorf("%d histograms of waits", n)
		}
	})
}

// TestSwitchedOffNobodyIsLeft: those in line go on to the station, and so does who comes then.
func TestSwitchedOffNobodyIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, one(), map[string]string{"queue.mode": "fifo"})
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() {
				if _, err := f.call(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := f.queue.length(); n != 4 {
			t.Errorf("%d wait, want 4", n)
		}
		f.set(t, nil)
		synctest.Wait()
		if n := f.queue.length(); n != 0 || f.queue.Wait(time.Now()) != 0 {
			t.Errorf("%d wait in a line that is off", n)
		}
		begin := time.Now()
		if _, err := f.call(t.Context()); err != nil || time.Since(begin) != 6*constant50 {
			t.Errorf("the sixth call is back after %v, %v", time.Since(begin), err)
		}
		callers.Wait()

		// On again, and as before.
		f.set(t, map[string]string{"queue.mode": "fifo", "queue.limit": "1"})
		f.idle(t)
		for range 2 {
			callers.Go(func() {
				if _, err := f.call(t.Context()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if _, err := f.call(t.Context()); !refusedBy(err, "as many") {
			t.Errorf("one too many gets %v", err)
		}
		callers.Wait()
		f.idle(t)
	})
}

// TestNothingOutlastsItsTime mixes all that can happen: deadlines, callers that give up, and knobs that change. Nobody is
// kept for longer than its own time, never are more calls at the slots than there are, and nobody is left.
func TestNothingOutlastsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 3
		f := newFront(t, capacity.Config{Slots: slots, ServiceTime: 20 * ms, Distribution: capacity.Exponential, Seed: 1},
			map[string]string{"queue.mode": "fifo"})
		random := rand.New(rand.NewPCG(8, 8))
		var callers sync.WaitGroup
		var ended [4]atomic.Int64
		for i := range 6_000 {
			if i%500 == 0 {
				f.set(t, map[string]string{
					"queue.mode":  []string{"fifo", "newest-first"}[random.IntN(2)],
					"queue.limit": []string{"1", "20", "1000"}[random.IntN(3)],
				})
			}
			time.Sleep(time.Duration(random.ExpFloat64() * float64(5*ms)))
			class, timeout := criticality.Class(random.IntN(criticality.Classes)), time.Duration(random.IntN(300))*ms
			giveUp := time.Duration(random.IntN(1000)) * ms
			callers.Go(func() {
				begin := time.Now()
				ctx, cancel := context.WithTimeout(criticality.With(t.Context(), class, 0), timeout)
				defer cancel()
				time.AfterFunc(giveUp, cancel)
				_, err := f.call(ctx)
				if took := time.Since(begin); took > min(timeout, giveUp) {
					t.Errorf("a call with %v was kept for %v", min(timeout, giveUp), took)
				}
				switch {
				case err == nil:
					ended[0].Add(1)
				case refusedBy(err, ""):
					ended[1].Add(1)
				case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
					ended[2].Add(1)
				case errors.Is(err, capacity.ErrTooLate):
					ended[3].Add(1)
				default:
					t.Error(err)
				}
			})
			synctest.Wait()
			f.queue.mu.Lock()
			if l := f.queue.line; l.past > slots || l.length > 0 && l.past < slots {
				t.Errorf("%d wait and %d are past %d slots", l.length, l.past, slots)
			}
			f.queue.mu.Unlock()
		}
		callers.Wait()
		f.idle(t)
		for i := range ended {
			if ended[i].Load() < 30 {
				t.Errorf("of the ways to end, number %d was taken %d times", i, ended[i].Load())
			}
		}
	})
}

func TestWithoutAStationEveryCallPasses(t *testing.T) {
	set, registry := knobs.NewSet(), prometheus.NewRegistry()
	refused, err := refusal.New(registry)
	if err != nil {
		t.Fatal(err)
	}
	q, err := New(set, registry, refused, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(knobs.NewSet(), registry, refused, nil); err == nil {
		t.Error("metrics are registered twice")
	}
	for _, mode := range []string{"off", "fifo", "newest-first"} {
		if err := set.Apply(map[string]string{"queue.mode": mode}); err != nil {
			t.Fatal(err)
		}
		got, err := q.Unary(t.Context(), "request", nil, func(ctx context.Context, req any) (any, error) {
			q.Leave(ctx, 0)
			return req, nil
		})
		if got != "request" || err != nil || q.Wait(time.Now()) != 0 {
			t.Errorf("%s: %v, %v", mode, got, err)
		}
		err = q.Stream("service", stream{ctx: t.Context()}, nil, func(srv any, _ grpc.ServerStream) error {
			if srv != "service" {
				t.Error("another service")
			}
			return errors.New("its own")
		})
		if err == nil || err.Error() != "its own" {
			t.Errorf("%s: a stream ends with %v", mode, err)
		}
	}
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

func TestAStreamWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront(t, one(), map[string]string{"queue.mode": "fifo", "queue.limit": "1"})
		begin := time.Now()
		pass := func() error {
			return f.queue.Stream(nil, stream{ctx: t.Context()}, nil, func(_ any, ss grpc.ServerStream) error {
				_, err := f.station.Serve(ss.Context(), time.Now())
				f.queue.Leave(ss.Context(), 0)
				time.Sleep(time.Hour) // goes on without a slot
				return err
			})
		}
		var callers sync.WaitGroup
		for i := range 2 {
			callers.Go(func() {
				if err := pass(); err != nil || time.Since(begin) != time.Duration(i+1)*constant50+time.Hour {
					t.Errorf("stream %d is over after %v, %v", i, time.Since(begin), err)
				}
			})
			synctest.Wait()
		}
		if err := pass(); !refusedBy(err, "as many") {
			t.Errorf("a third stream gets %v", err)
		}
		callers.Wait()
		f.idle(t)
	})
}

// FuzzKnobs: no value that the knobs take stops calls from being answered.
func FuzzKnobs(f *testing.F) {
	f.Add("fifo", "1")
	f.Add("newest-first", "100000")
	f.Add("off", "0")
	f.Add("lifo", "-1")
	front := newFront(f, capacity.Config{Slots: 1, ServiceTime: time.Microsecond, Distribution: capacity.Constant}, nil)
	f.Fuzz(func(t *testing.T, mode, limit string) {
		err := front.knobs.Apply(map[string]string{"queue.mode": mode, "queue.limit": limit})
		if n := front.queue.limit.Get(); n < 1 || n > 100_000 {
			t.Errorf("the limit is %d, the set said %v", n, err)
		}
		if _, err := front.call(t.Context()); err != nil {
			t.Errorf("in mode %q, limit %q, a call gets %v", mode, limit, err)
		}
		front.idle(t)
	})
}

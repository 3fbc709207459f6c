package concurrency

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

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// replica is a limiter in front of a station.
type replica struct {
	limiter  *Limiter
	station  *capacity.Station
	knobs    *knobs.Set
	registry *prometheus.Registry
}

func newReplica(t testing.TB, config capacity.Config, mode string) *replica {
	t.Helper()
	r := &replica{knobs: knobs.NewSet(), registry: prometheus.NewPedanticRegistry()}
	refused, err := refusal.New(r.registry)
	if err != nil {
		t.Fatal(err)
	}
	if r.station, err = capacity.New(config, r.registry); err != nil {
		t.Fatal(err)
	}
	wait := func(now time.Time) time.Duration { return r.station.Plan(now).Start.Sub(now) }
	if r.limiter, err = New(r.knobs, r.registry, refused, r.station, wait); err != nil {
		t.Fatal(err)
	}
	r.set(t, mode)
	return r
}

func (r *replica) set(t testing.TB, mode string) {
	t.Helper()
	if err := r.knobs.Apply(map[string]string{"concurrency.mode": mode}); err != nil {
		t.Fatal(err)
	}
}

// call takes a call through limiter and station.
func (r *replica) call(ctx context.Context) error {
	_, err := r.limiter.Unary(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
		_, err := r.station.Serve(ctx, time.Now())
		if errors.Is(err, capacity.ErrTooLate) { // as the chain's last entry has it
			err = problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, "too late").Because(err)
		}
		return nil, err
	})
	return err
}

func refused(err error) bool {
	p, ok := errors.AsType[*problem.Problem](err)
	return ok && p.Code == codes.ResourceExhausted && p.Reason == problem.Overloaded && p.Metadata[refusal.ByKey] == "concurrency" &&
		p.Retryable && p.RetryAfter > 0
}

// tally is what became of the calls of a load, by class.
type tally struct {
	sent, served, refused, late [criticality.Classes]int64
}

func sum(of [criticality.Classes]int64) (n int64) {
	for _, v := range of {
		n += v
	}
	return n
}

// load sends Poisson arrivals, as many times as the replica can serve as given, for a time. Each has a deadline of a second;
// mix gives its class.
func (r *replica) load(t *testing.T, times float64, duration time.Duration, mix func(*rand.Rand) criticality.Class) (got tally) {
	t.Helper()
	gap := float64(r.station.ServiceTime()) / float64(r.station.Slots()) / times
	random := rand.New(rand.NewPCG(4, uint64(duration)))
	var callers sync.WaitGroup
	var mu sync.Mutex
	for begin := time.Now(); time.Since(begin) < duration; {
		time.Sleep(time.Duration(random.ExpFloat64() * gap))
		class := mix(random)
		got.sent[class]++
		limit, before := r.limiter.state()
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(criticality.With(t.Context(), class, 0), time.Second)
			defer cancel()
			err := r.call(ctx)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got.served[class]++
			case refused(err):
				got.refused[class]++
			case errors.Is(err, context.DeadlineExceeded), errors.Is(err, capacity.ErrTooLate):
				got.late[class]++
			default:
				t.Error(err)
			}
		})
		synctest.Wait()
		// A limit may fall while calls are in flight, and at an arrival it may rise by one; then nobody else comes in.
		if _, after := r.limiter.state(); after > before && after > limit+1 && limit > 0 {
			t.Fatalf("a call came in as number %d where %d may be in flight", after, limit)
		}
	}
	callers.Wait()
	if _, inFlight := r.limiter.state(); inFlight != 0 {
		t.Errorf("%d are in flight when all calls have ended", inFlight)
	}
	return got
}

func only(class criticality.Class) func(*rand.Rand) criticality.Class {
	return func(*rand.Rand) criticality.Class { return class }
}

// tenth is a load of which a tenth is critical, three tenths are sheddable.
func tenth(random *rand.Rand) criticality.Class {
	switch n := random.IntN(10); {
	case n == 0:
		return criticality.Critical
	case n < 7:
		return criticality.Standard
	}
	return criticality.Sheddable
}

// TestUnderOverload: at several times what a replica can serve, the limit keeps its slots at work and its calls in time, of
// whatever class they are, and refuses critical ones last; without one, on a server that refuses nobody, hardly a call is
// answered in its time.
func TestUnderOverload(t *testing.T) {
	const half = 20 * time.Second
	fast := capacity.Config{Slots: 5, ServiceTime: 40 * ms, Distribution: capacity.Exponential, Seed: 1}
	slow := capacity.Config{Slots: 3, ServiceTime: 100 * ms, Distribution: capacity.Exponential, Seed: 1}
	for name, test := range map[string]struct {
		config      capacity.Config
		mode        string
		times       float64
		mix         func(*rand.Rand) criticality.Class
		least, most float64 // goodput, in capacities
	}{
		"no limit":             {fast, modeOff, 5, tenth, 0, 0.2},
		"no limit, twice":      {fast, modeOff, 2, tenth, 0, 0.2},
		"aimd, standard":       {fast, modeAIMD, 5, only(criticality.Standard), 0.9, 1.05},
		"aimd, sheddable":      {fast, modeAIMD, 5, only(criticality.Sheddable), 0.9, 1.05},
		"aimd, mixed":          {fast, modeAIMD, 5, tenth, 0.9, 1.05},
		"aimd, twice":          {fast, modeAIMD, 2, tenth, 0.9, 1.05},
		"aimd, slow":           {slow, modeAIMD, 5, tenth, 0.9, 1.05},
		"adaptive, standard":   {fast, modeAdaptive, 5, only(criticality.Standard), 0.9, 1.05},
		"adaptive, sheddable":  {fast, modeAdaptive, 5, only(criticality.Sheddable), 0.9, 1.05},
		"adaptive, mixed":      {fast, modeAdaptive, 5, tenth, 0.9, 1.05},
		"adaptive, twice":      {fast, modeAdaptive, 2, tenth, 0.85, 1.05},
		"adaptive, slow":       {slow, modeAdaptive, 5, only(criticality.Standard), 0.9, 1.05},
		"adaptive, slow twice": {slow, modeAdaptive, 2, tenth, 0.85, 1.05},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReplica(t, test.config, test.mode)
				r.station.SetRefuse(false)
				capacity := float64(test.config.Slots) / test.config.ServiceTime.Seconds()
				r.load(t, 0.6, 20*time.Second, test.mix) // what is normal
				got := r.load(t, test.times, half, test.mix)
				limit, _ := r.limiter.state()
				goodput := float64(sum(got.served)) / capacity / half.Seconds()
				t.Logf("goodput %.3f of the capacity, limit %d; of %v served %v, refused %v, late %v", goodput, limit, got.sent, got.served, got.refused, got.late)
				if goodput < test.least || goodput > test.most {
					t.Errorf("goodput is %.3f of the capacity, want %v to %v", goodput, test.least, test.most)
				}
				var share [criticality.Classes]float64
				for class := range share {
					share[class] = float64(got.served[class]) / max(1, float64(got.sent[class]))
				}
				// With a limit of 4 the shares of standard and sheddable calls are the same 3.
				apart := room(criticality.Standard, limit) > room(criticality.Sheddable, limit)
				if mixed := got.sent[criticality.Critical] > 0; mixed && test.mode != modeOff &&
					(share[criticality.Critical] < 1.1*share[criticality.Standard] || apart && share[criticality.Standard] < 1.1*share[criticality.Sheddable]) {
					t.Errorf("of the classes these shares are served: %.2f", share)
				}
			})
		})
	}
}

// TestNeverMoreThanTheLimit: whatever comes and goes at the same time, on all cores, no class goes beyond its share. The
// limit does not move meanwhile.
func TestNeverMoreThanTheLimit(t *testing.T) {
	for _, mode := range []string{modeAIMD, modeAdaptive} {
		g := newGate(mode, 10)
		limit := g.limit()
		var inFlight, most [criticality.Classes]atomic.Int64
		var callers sync.WaitGroup
		for i := range 60 {
			callers.Go(func() {
				class := criticality.Class(i % criticality.Classes)
				for range 300 {
					p, ok := g.admit(class, time.Time{}, 0, time.Second)
					if !ok {
						continue
					}
					g.mu.Lock()
					n := int64(g.inFlight)
					g.mu.Unlock()
					most[class].Store(max(most[class].Load(), n))
					inFlight[class].Add(1)
					if total := inFlight[0].Load() + inFlight[1].Load() + inFlight[2].Load(); total > int64(limit) {
						t.Errorf("%s: %d are in flight where %d may be", mode, total, limit)
					}
					inFlight[class].Add(-1)
					p.end(context.Canceled)
				}
			})
		}
		callers.Wait()
		if g.inFlight != 0 || g.limit() != limit {
			t.Errorf("%s: %d are in flight at the end, the limit is %d and was %d", mode, g.inFlight, g.limit(), limit)
		}
		// One at a time, up to the brim.
		var passes []pass
		for _, class := range []criticality.Class{criticality.Sheddable, criticality.Standard, criticality.Critical} {
			for {
				p, ok := g.admit(class, time.Time{}, 0, time.Second)
				if !ok {
					break
				}
				passes = append(passes, p)
			}
			if len(passes) != room(class, limit) {
				t.Errorf("%s: with %v calls too %d are in flight, want %d", mode, class, len(passes), room(class, limit))
			}
		}
		for _, p := range passes {
			p.end(nil)
		}
	}
}

func TestARefusalIsTheSameForAllAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, capacity.Config{Slots: 1, ServiceTime: time.Second, Distribution: capacity.Constant}, modeAIMD)
		var callers sync.WaitGroup
		for range 2 {
			callers.Go(func() {
				if err := r.call(criticality.With(t.Context(), criticality.Critical, 0)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		begin := time.Now()
		for class := range criticality.Classes {
			if err := r.call(criticality.With(t.Context(), criticality.Class(class), 0)); !refused(err) || time.Since(begin) != 0 {
				t.Errorf("after %v one too many gets %v", time.Since(begin), err)
			}
		}
		want := `
			# HELP spillway_concurrency_in_flight Calls in flight that the limit counts; 0 when there is no limit.
			# TYPE spillway_concurrency_in_flight gauge
			spillway_concurrency_in_flight 2
			# HELP spillway_concurrency_limit Calls that may be in flight, of the most urgent class; 0 when there is no limit.
			# TYPE spillway_concurrency_limit gauge
			spillway_concurrency_limit 2
			# HELP spillway_refused_total Calls refused on purpose, by the protection that refused, the call's class, and the dependency that it was meant for; callee is empty for calls into this service.
			# TYPE spillway_refused_total counter
			spillway_refused_total{by="concurrency",callee="",priority="critical"} 1
			spillway_refused_total{by="concurrency",callee="",priority="sheddable"} 1
			spillway_refused_total{by="concurrency",callee="",priority="standard"} 1
		`
		if err := testutil.GatherAndCompare(r.registry, strings.NewReader(want),
			"spillway_concurrency_in_flight", "spillway_concurrency_limit", "spillway_refused_total"); err != nil {
			t.Error(err)
		}
		// Off: those under way end as they are, and nobody is refused.
		r.set(t, modeOff)
		callers.Go(func() {
			if err := r.call(t.Context()); err != nil {
				t.Error(err)
			}
		})
		callers.Wait()
		if limit, inFlight := r.limiter.state(); limit != 0 || inFlight != 0 {
			t.Errorf("off, the limit is %d and %d are in flight", limit, inFlight)
		}
	})
}

func TestWhichTimesTell(t *testing.T) {
	deadline := problem.New(codes.DeadlineExceeded, problem.DeadlineExceeded, "x")
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"served":                 {nil, true},
		"failed":                 {errors.New("x"), true},
		"its deadline passed":    {context.DeadlineExceeded, true},
		"that of a callee":       {deadline, true},
		"not found":              {problem.New(codes.NotFound, "X", "x"), true},
		"its caller gave up":     {context.Canceled, false},
		"that of a callee, gone": {problem.New(codes.Canceled, problem.Canceled, "x"), false},
		"refused":                {answer, false},
		"too late to be begun":   {problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, "x"), false},
	} {
		if got := telling(test.err); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestAPanicGivesThePlaceBack, of a unary call and of a stream.
func TestAPanicGivesThePlaceBack(t *testing.T) {
	for _, mode := range []string{modeOff, modeAdaptive, modeAIMD} {
		r := newReplica(t, capacity.Config{Slots: 1, ServiceTime: ms, Distribution: capacity.Constant}, mode)
		for _, call := range []func(){
			func() {
				_, _ = r.limiter.Unary(t.Context(), nil, nil, func(context.Context, any) (any, error) { panic("oh") })
			},
			func() {
				_ = r.limiter.Stream(nil, stream{ctx: t.Context()}, nil, func(any, grpc.ServerStream) error { panic("oh") })
			},
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("a panic does not come through")
					}
				}()
				call()
			}()
			if _, inFlight := r.limiter.state(); inFlight != 0 {
				t.Errorf("%s: %d are in flight after a panic", mode, inFlight)
			}
		}
	}
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

func TestAStreamIsInFlightUntilItEnds(t *testing.T) {
	r := newReplica(t, capacity.Config{Slots: 1, ServiceTime: ms, Distribution: capacity.Constant}, modeAIMD)
	ctx := criticality.With(t.Context(), criticality.Critical, 0)
	var open func(n int) error
	open = func(n int) error {
		return r.limiter.Stream(nil, stream{ctx: ctx}, nil, func(any, grpc.ServerStream) error {
			if _, inFlight := r.limiter.state(); inFlight != n {
				t.Errorf("%d are in flight in stream %d", inFlight, n)
			}
			return open(n + 1)
		})
	}
	if err := open(1); !refused(err) {
		t.Errorf("the third of two streams gets %v", err)
	}
	if err := second(r); err == nil {
		t.Error("metrics are registered twice")
	}
}

// second makes a second limiter with the registry of r.
func second(r *replica) error {
	c, err := refusal.New(prometheus.NewRegistry())
	if err != nil {
		return nil
	}
	_, err = New(knobs.NewSet(), r.registry, c, nil, nil)
	return err
}

// FuzzKnobs: no value that the knobs take stops a call that is alone.
func FuzzKnobs(f *testing.F) {
	f.Add("adaptive", "20ms")
	f.Add("aimd", "1ms")
	f.Add("off", "0s")
	f.Add("Vegas", "-1h")
	r := newReplica(f, capacity.Config{Slots: 1, ServiceTime: time.Microsecond, Distribution: capacity.Constant}, modeOff)
	f.Fuzz(func(t *testing.T, mode, target string) {
		err := r.knobs.Apply(map[string]string{"concurrency.mode": mode, "concurrency.target": target})
		if got := r.limiter.target.Get(); got < ms || got > 10*time.Second {
			t.Errorf("the target is %v, the set said %v", got, err)
		}
		if err := r.call(t.Context()); err != nil {
			t.Errorf("in mode %q a call gets %v", mode, err)
		}
	})
}

// TestWhyNotTheLibrarysOwnWindows: where deadlines cut calls off, the library as it comes takes overload for normal and
// raises its limit until nothing is answered in time. newAdaptive's windows keep goodput up.
func TestWhyNotTheLibrarysOwnWindows(t *testing.T) {
	for name, test := range map[string]struct {
		limiter     func(slots int) adaptivelimiter.AdaptiveLimiter[any]
		least, most float64
	}{
		"its own": {func(int) adaptivelimiter.AdaptiveLimiter[any] {
			return adaptivelimiter.NewBuilder[any]().WithLimits(lowest, highest, 20).Build()
		}, 0, 0.3},
		"ours": {func(slots int) adaptivelimiter.AdaptiveLimiter[any] { return newAdaptive(beginning(slots)) }, 0.85, 1.05},
	} {
		synctest.Test(t, func(t *testing.T) {
			config := capacity.Config{Slots: 3, ServiceTime: 100 * ms, Distribution: capacity.Exponential, Seed: 1}
			r := newReplica(t, config, modeAdaptive)
			r.limiter.gate.Load().adaptive = test.limiter(config.Slots)
			r.station.SetRefuse(false)
			for minute := range 3 {
				got := r.load(t, 2, time.Minute, only(criticality.Standard))
				limit, _ := r.limiter.state()
				goodput := float64(sum(got.served)) / 30 / 60
				t.Logf("%s, minute %d: goodput %.3f of the capacity, limit %d", name, minute+1, goodput, limit)
				if minute == 2 && (goodput < test.least || goodput > test.most) {
					t.Errorf("%s: goodput is %.3f of the capacity in the third minute, want %v to %v", name, goodput, test.least, test.most)
				}
			}
		})
	}
}

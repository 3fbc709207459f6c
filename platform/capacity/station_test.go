package capacity

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

func newStation(t *testing.T, config Config) (*Station, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	station, err := New(config, registry)
	if err != nil {
		t.Fatal(err)
	}
	return station, registry
}

// TestStationIsTheModel sends the same arrivals to the station and to the model: every wait must be equal, and every
// caller must return at the very finish. The bubble's clock has no jitter, so this is exact on any host.
func TestStationIsTheModel(t *testing.T) {
	for _, distribution := range []Distribution{Exponential, Constant} {
		t.Run(string(distribution), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := Config{Slots: 3, ServiceTime: 50 * time.Millisecond, Distribution: distribution, Seed: 11}
				station, _ := newStation(t, config)
				model, services := newQueue(config.Slots), newSource(config.ServiceTime, config.Distribution, config.Seed)
				gaps := newArrivals(config, 0.9)
				var callers sync.WaitGroup
				var at time.Duration
				waited := 0
				for i := range 2_000 {
					gap := gaps.draw()
					at += gap
					time.Sleep(gap)
					start, finish := model.admit(at, services.draw())
					want := Visit{Wait: start - at, Service: finish - start}
					if want.Wait > 0 {
						waited++
					}
					callers.Go(func() {
						visit, err := station.Serve(t.Context(), time.Now())
						if err != nil || visit != want || time.Since(station.epoch) != finish {
							t.Errorf("request %d: got %+v, %v, back at %v; want %+v, back at %v", i, visit, err, time.Since(station.epoch), want, finish)
						}
					})
					synctest.Wait()
				}
				callers.Wait()
				if waited < 500 {
					t.Errorf("only %d of 2000 requests waited, the test shows nothing", waited)
				}
			})
		})
	}
}

// TestStationOnTheRealClock: however late the host runs, waits are the model's and nobody leaves before the finish. How
// late is reported. The next request is sent when the one before is admitted, so that the order is the same.
func TestStationOnTheRealClock(t *testing.T) {
	config := Config{Slots: 4, ServiceTime: 20 * time.Millisecond, Distribution: Exponential, Seed: 5}
	station, _ := newStation(t, config)
	model, services, gaps := newQueue(config.Slots), newSource(config.ServiceTime, config.Distribution, config.Seed), newArrivals(config, 0.9)
	const requests = 250
	var (
		callers sync.WaitGroup
		late    atomic.Int64
		at      time.Duration
	)
	for range requests {
		at += gaps.draw()
		arrival := station.epoch.Add(at)
		start, finish := model.admit(at, services.draw())
		want := start - at
		if err := sleepUntil(t.Context(), arrival); err != nil {
			t.Fatal(err)
		}
		callers.Go(func() {
			visit, err := station.Serve(t.Context(), arrival)
			left := time.Since(station.epoch)
			late.Add(int64(visit.Lateness))
			if err != nil || visit.Wait != want || left < finish || visit.Lateness > left-finish {
				t.Errorf("got %+v, %v, left at %v; want a wait of %v and to leave at %v or later", visit, err, left, want, finish)
			}
		})
		for admitted := false; !admitted; runtime.Gosched() {
			station.mu.Lock()
			admitted = station.queue.work == model.work
			station.mu.Unlock()
		}
	}
	callers.Wait()
	t.Logf("mean lateness %v", time.Duration(late.Load()/requests))
}

func TestRefusesWhatCannotFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{Slots: 1, ServiceTime: 50 * time.Millisecond, Distribution: Constant})
		var callers sync.WaitGroup
		defer callers.Wait()
		callers.Go(func() {
			if _, err := station.Serve(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()

		begin := time.Now()
		ctx, cancel := context.WithDeadline(t.Context(), begin.Add(99*time.Millisecond))
		defer cancel()
		_, err := station.Serve(ctx, begin)
		late, ok := errors.AsType[*TooLateError](err)
		if !ok || !errors.Is(err, ErrTooLate) {
			t.Fatalf("got %v, want a TooLateError", err)
		}
		if want := (TooLateError{Wait: 50 * time.Millisecond, Service: 50 * time.Millisecond, Late: time.Millisecond}); *late != want {
			t.Errorf("got %+v, want %+v", *late, want)
		}
		if time.Since(begin) != 0 {
			t.Errorf("the refusal took %v", time.Since(begin))
		}
		// No slot was taken: the next one waits for the first only, and just makes it by its deadline.
		ctx, cancel = context.WithDeadline(t.Context(), begin.Add(100*time.Millisecond+time.Nanosecond))
		defer cancel()
		if visit, err := station.Serve(ctx, begin); err != nil || visit.Wait != 50*time.Millisecond {
			t.Errorf("got %+v, %v, want a wait of 50ms", visit, err)
		}
		expectMetrics(t, registry, `spillway_capacity_refused_total 1`)
	})
}

// TestRefusalTakesItsServiceTime: otherwise one long draw would refuse everybody with the same deadline for ever.
func TestRefusalTakesItsServiceTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, _ := newStation(t, Config{Slots: 1, ServiceTime: 50 * time.Millisecond, Distribution: Exponential, Seed: 1})
		served := 0
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			if _, err := station.Serve(ctx, time.Now()); err == nil {
				served++
			}
			cancel()
		}
		// P(S < 30 ms) = 1 − e^(−0.6) = 0.45.
		if served < 70 || served > 110 {
			t.Errorf("%d of 200 requests fitted a deadline of 30ms, want about 90", served)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{Slots: 1, ServiceTime: 50 * time.Millisecond, Distribution: Constant})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		begin := time.Now()
		visit, err := station.Serve(ctx, begin)
		if !errors.Is(err, context.Canceled) || time.Since(begin) != 10*time.Millisecond || visit.Service != 50*time.Millisecond {
			t.Fatalf("got %+v, %v after %v, want Canceled after 10ms", visit, err, time.Since(begin))
		}
		// The slot works on.
		expectMetrics(t, registry, `spillway_capacity_busy_slots 1`, `spillway_capacity_in_flight 0`)
		if visit, err := station.Serve(t.Context(), time.Now()); err != nil || visit.Wait != 40*time.Millisecond {
			t.Errorf("got %+v, %v, want a wait of 40ms", visit, err)
		}
	})
}

func TestPlanTellsWhatServeDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, _ := newStation(t, Config{Slots: 2, ServiceTime: 50 * time.Millisecond, Distribution: Exponential, Seed: 3})
		var callers sync.WaitGroup
		defer callers.Wait()
		for range 20 {
			arrival := time.Now()
			plan := station.Plan(arrival)
			if again := station.Plan(arrival); again != plan {
				t.Errorf("planning moved the plan from %v to %v", plan, again)
			}
			callers.Go(func() {
				visit, err := station.Serve(t.Context(), arrival)
				if err != nil || !arrival.Add(visit.Wait).Equal(plan.Start) || !time.Now().Equal(plan.Finish) {
					t.Errorf("got %+v, %v at %v, planned %+v", visit, err, time.Now(), plan)
				}
			})
			synctest.Wait()
		}
	})
}

func TestLateRequestIsNotQueuedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, _ := newStation(t, Config{Slots: 1, ServiceTime: 50 * time.Millisecond, Distribution: Constant})
		arrival := time.Now()
		time.Sleep(20 * time.Millisecond)
		if visit, err := station.Serve(t.Context(), arrival); err != nil || visit.Lateness != 0 || time.Since(arrival) != 50*time.Millisecond {
			t.Errorf("got %+v, %v after %v, want to leave on time", visit, err, time.Since(arrival))
		}
		arrival = time.Now()
		time.Sleep(70 * time.Millisecond)
		if visit, err := station.Serve(t.Context(), arrival); err != nil || visit.Lateness != 20*time.Millisecond || time.Since(arrival) != 70*time.Millisecond {
			t.Errorf("got %+v, %v after %v, want to leave at once, 20ms late", visit, err, time.Since(arrival))
		}
	})
}

func TestModelOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{Slots: 1, Distribution: Exponential})
		begin := time.Now()
		if plan := station.Plan(begin); plan != (Plan{Start: begin, Finish: begin}) {
			t.Errorf("got %+v, want nothing to wait for", plan)
		}
		for range 100 {
			if visit, err := station.Serve(t.Context(), begin); err != nil || visit != (Visit{}) {
				t.Fatalf("got %+v, %v, want nothing", visit, err)
			}
		}
		if time.Since(begin) != 0 {
			t.Errorf("took %v", time.Since(begin))
		}
		expectMetrics(t, registry, `spillway_capacity_service_seconds_mean 0`, `spillway_capacity_busy_seconds_total 0`)
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{Slots: 2, ServiceTime: 100 * time.Millisecond, Distribution: Constant})
		var callers sync.WaitGroup
		for range 5 {
			callers.Go(func() {
				if _, err := station.Serve(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		expectMetrics(t, registry,
			`spillway_capacity_slots 2`, `spillway_capacity_service_seconds_mean 0.1`,
			`spillway_capacity_busy_slots 2`, `spillway_capacity_utilization_ratio 1`,
			`spillway_capacity_queue_length 3`, `spillway_capacity_in_flight 5`, `spillway_capacity_busy_seconds_total 0`)
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		expectMetrics(t, registry,
			`spillway_capacity_busy_slots 2`, `spillway_capacity_queue_length 1`,
			`spillway_capacity_in_flight 3`, `spillway_capacity_busy_seconds_total 0.3`)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		expectMetrics(t, registry,
			`spillway_capacity_busy_slots 1`, `spillway_capacity_utilization_ratio 0.5`,
			`spillway_capacity_queue_length 0`, `spillway_capacity_busy_seconds_total 0.45`)
		callers.Wait()
		expectMetrics(t, registry,
			`spillway_capacity_busy_slots 0`, `spillway_capacity_in_flight 0`, `spillway_capacity_busy_seconds_total 0.5`,
			`spillway_capacity_wait_seconds_sum 0.4`, `spillway_capacity_wait_seconds_bucket{le="0"} 2`,
			`spillway_capacity_lateness_seconds_count 5`, `spillway_capacity_lateness_seconds_sum 0`)
	})
}

// expectMetrics checks that each line is in what a scrape of the registry gives.
func expectMetrics(t *testing.T, registry *prometheus.Registry, lines ...string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range lines {
		if !strings.Contains(text.String(), "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text.String())
		}
	}
}

// gathered is the value of a counter or gauge without labels.
func gathered(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue() + family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

func TestConfigIsChecked(t *testing.T) {
	for name, config := range map[string]Config{
		"capacity slots: 0":               {Slots: 0, ServiceTime: 1, Distribution: Constant},
		"capacity service time: -1ns":     {Slots: 1, ServiceTime: -1, Distribution: Constant},
		`capacity distribution: "gamma"`:  {Slots: 1, ServiceTime: 1, Distribution: "gamma"},
		`capacity distribution: "" is no`: {Slots: 1, ServiceTime: 1},
		`capacity kind: "gpu" is no`:      {Kind: "gpu", Slots: 1, ServiceTime: 1, Distribution: Constant},
		"capacity cold time: -1ns":        {Slots: 1, ServiceTime: 1, Distribution: Constant, ColdFor: -1},
		"capacity cold factor: 0.5":       {Slots: 1, ServiceTime: 1, Distribution: Constant, ColdFor: 1, ColdFactor: 0.5},
	} {
		if _, err := New(config, prometheus.NewRegistry()); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%+v: got %v, want %q", config, err, name)
		}
	}
	registry := prometheus.NewRegistry()
	config := Config{Slots: 1, ServiceTime: 1, Distribution: Constant}
	if _, err := New(config, registry); err != nil {
		t.Fatal(err)
	}
	if _, err := New(config, registry); err == nil {
		t.Error("two stations in one registry: want an error")
	}
}

// TestAServerThatKnowsOfNoDeadlines takes what cannot finish: the caller hears of it when its time is over, and the slot
// does the work all the same.
func TestAServerThatKnowsOfNoDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{Slots: 1, ServiceTime: 50 * time.Millisecond, Distribution: Constant})
		station.SetRefuse(false)
		begin := time.Now()
		hurried := func(want error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			from := time.Now()
			_, err := station.Serve(ctx, from)
			if !errors.Is(err, want) {
				t.Errorf("a call with too little time gets %v, want %v", err, want)
			}
			if took := time.Since(from); want == context.DeadlineExceeded && took != 10*time.Millisecond {
				t.Errorf("it hears of it after %v", took)
			}
		}
		for range 3 {
			hurried(context.DeadlineExceeded)
		}
		station.SetRefuse(true)
		hurried(ErrTooLate)
		if visit, err := station.Serve(t.Context(), time.Now()); err != nil || visit.Wait != 120*time.Millisecond || time.Since(begin) != 200*time.Millisecond {
			t.Errorf("after three calls for nothing the next is back after %v, %+v, %v", time.Since(begin), visit, err)
		}
		expectMetrics(t, registry, `spillway_capacity_refused_total 1`)
	})
}

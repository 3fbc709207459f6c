package capacity

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A request that burns uses its service time as CPU of the process, however slow the wall clock says that was.
func TestBurnsCPUTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("this system does not tell a thread's CPU time: requests burn by the wall clock")
	}
	const requests, service = 10, 20 * time.Millisecond
	station, registry := newStation(t, Config{Kind: CPU, Slots: 2, ServiceTime: service, Distribution: Constant})
	before := processCPU()
	var callers sync.WaitGroup
	for range requests {
		callers.Go(func() {
			visit, err := station.Serve(t.Context(), time.Now())
			if err != nil || visit.Service != service {
				t.Errorf("got %+v, %v, want to be served for %v", visit, err, service)
			}
		})
	}
	callers.Wait()
	if used, want := processCPU()-before, requests*service; used < want {
		t.Errorf("%d requests used %v of CPU, want at least %v", requests, used, want)
	}
	load := station.load()
	// Each may burn a slice too much, and what the kernel takes between two looks.
	if load.busy != 0 || load.queued != 0 || load.worked < requests*service {
		t.Errorf("the station says %+v after %v of work", load, requests*service)
	}
	expectMetrics(t, registry, `spillway_capacity_in_flight 0`, `spillway_capacity_wait_seconds_count 10`,
		`spillway_capacity_service_seconds_mean 0.02`)
	if got := gathered(t, registry, "spillway_capacity_cpu_seconds_total"); math.Abs(got-processCPU().Seconds()/2) > 0.5 || got <= 0 {
		t.Errorf("CPU used is %v s, want half of the process's %v", got, processCPU())
	}
}

// hold takes every slot of a burning station until the function that it returns is called.
func hold(t *testing.T, station *Station) (release func()) {
	t.Helper()
	for range station.config.Slots {
		if !station.burners.enter(t.Context()) {
			t.Fatal("no slot is free")
		}
	}
	return func() {
		for range station.config.Slots {
			station.burners.leave()
		}
	}
}

func TestBurnersServeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{Kind: CPU, Slots: 1, ServiceTime: time.Microsecond, Distribution: Constant})
		release := hold(t, station)
		var callers sync.WaitGroup
		var order []int // guarded by the one slot
		const requests = 20
		for i := range requests {
			callers.Go(func() {
				if !station.burners.enter(t.Context()) {
					t.Error("no turn came")
					return
				}
				order = append(order, i)
				station.burners.leave()
			})
			synctest.Wait()
		}
		expectMetrics(t, registry, `spillway_capacity_busy_slots 1`, `spillway_capacity_queue_length 20`)
		release()
		callers.Wait()
		if len(order) != requests || !slices.IsSorted(order) {
			t.Errorf("the order is %v, want that of arrival", order)
		}
	})
}

func TestBurnerRefusesWhatCannotFinish(t *testing.T) {
	station, registry := newStation(t, Config{Kind: CPU, Slots: 1, ServiceTime: 10 * time.Second, Distribution: Constant})
	release := hold(t, station)
	// Too late from the first, and too late once it has waited.
	for _, timeout := range []time.Duration{time.Second, 10*time.Second + 50*time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		begin := time.Now()
		_, err := station.Serve(ctx, begin)
		cancel()
		late, ok := errors.AsType[*TooLateError](err)
		if !ok || late.Service != 10*time.Second || late.Wait < timeout-10*time.Second || time.Since(begin) > 9*time.Second {
			t.Errorf("with %v: %v after %v, want a TooLateError", timeout, err, time.Since(begin))
		}
	}
	expectMetrics(t, registry, `spillway_capacity_refused_total 2`, `spillway_capacity_queue_length 0`)

	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, err := station.Serve(ctx, time.Now()); gone <- err }()
	for station.burners.load().queued == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up while waiting gets %v", err)
	}
	release()

	// One that is being served ends with its caller, and so does the start's own work.
	ctx, cancel = context.WithCancel(t.Context())
	go func() { _, err := station.Serve(ctx, time.Now()); gone <- err }()
	for station.burners.load().busy == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up while being served gets %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	wait := station.Occupy(ctx, 1, time.Hour)
	for station.burners.load().busy == 0 {
		runtime.Gosched()
	}
	cancel()
	wait()
	expectMetrics(t, registry, `spillway_capacity_busy_slots 0`)
}

func TestBurnersPlanTheBestCase(t *testing.T) {
	station, _ := newStation(t, Config{Kind: CPU, Slots: 1, ServiceTime: time.Second, Distribution: Constant})
	defer hold(t, station)()
	arrival := time.Now()
	if plan := station.Plan(arrival); !plan.Start.Equal(arrival) || !plan.Finish.Equal(arrival.Add(time.Second)) {
		t.Errorf("got %+v, want to begin at %v and take a second", plan, arrival)
	}
}

// TestABurnerThatKnowsOfNoDeadlines burns for a call that cannot finish until its time is over.
func TestABurnerThatKnowsOfNoDeadlines(t *testing.T) {
	station, registry := newStation(t, Config{Kind: CPU, Slots: 1, ServiceTime: time.Hour, Distribution: Constant})
	station.SetRefuse(false)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := station.Serve(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an hour's work in 30ms gives %v", err)
	}
	expectMetrics(t, registry, `spillway_capacity_refused_total 0`)
}

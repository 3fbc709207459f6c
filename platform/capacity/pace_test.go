package capacity

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	const start = 10 * time.Second
	cold := pace{slowdown: 1, coldFactor: 5, coldFor: 20 * time.Second, started: start, begun: true}
	slow := cold
	slow.slowdown = 3
	notYet := cold
	notYet.begun = false
	for name, test := range map[string]struct {
		pace pace
		at   time.Duration
		want float64
	}{
		"neither":                    {pace{slowdown: 1}, start, 1},
		"slowed down":                {pace{slowdown: 2.5}, start, 2.5},
		"sped up":                    {pace{slowdown: 0.5}, start, 0.5},
		"not started":                {notYet, start + time.Hour, 5},
		"before the start":           {cold, 0, 5},
		"at the start":               {cold, start, 5},
		"a quarter through":          {cold, start + 5*time.Second, 4},
		"half through":               {cold, start + 10*time.Second, 3},
		"warm":                       {cold, start + 20*time.Second, 1},
		"long warm":                  {cold, start + time.Hour, 1},
		"cold and slowed down":       {slow, start + 10*time.Second, 9},
		"a factor without a time":    {pace{slowdown: 1, coldFactor: 5, begun: true}, 0, 1},
		"a time without any factor":  {pace{slowdown: 2, coldFactor: 1, coldFor: time.Hour, begun: true}, 0, 2},
		"warm and still slowed down": {slow, start + time.Hour, 3},
	} {
		if got := test.pace.at(test.at); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// A station that is slowed down is the M/G/K queue of the longer service times: it waits as one whose mean is so long.
func TestSlowdownIsALongerService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const factor = 4
		config := Config{Slots: 3, ServiceTime: 20 * time.Millisecond, Distribution: Exponential, Seed: 9}
		station, registry := newStation(t, config)
		if err := station.SetSlowdown(factor); err != nil {
			t.Fatal(err)
		}
		longer := config
		longer.ServiceTime *= factor
		model, services := newQueue(longer.Slots), newSource(longer.ServiceTime, longer.Distribution, longer.Seed)
		gaps := newArrivals(longer, 0.9)
		var at time.Duration
		for i := range 2_000 {
			at += gaps.draw()
			start, finish := model.admit(at, services.draw())
			arrival := station.epoch.Add(at)
			plan := station.Plan(arrival)
			// The draw is rounded to a nanosecond before it is stretched, and each request waits for those before it.
			if off := plan.Start.Sub(station.epoch) - start; off.Abs() > 10*time.Microsecond {
				t.Fatalf("request %d begins at %v, want %v", i, plan.Start.Sub(station.epoch), start)
			}
			visit, end, err := station.admit(t.Context(), arrival)
			if err != nil || !end.Equal(plan.Finish) || (visit.Service-(finish-start)).Abs() > factor {
				t.Fatalf("request %d: %+v until %v, %v; planned until %v", i, visit, end, err, plan.Finish)
			}
		}
		expectMetrics(t, registry, `spillway_capacity_service_seconds_mean 0.08`, `spillway_capacity_slots 3`)
	})
}

// What was admitted before a slow-down keeps its finish; what comes after it is slower.
func TestSlowdownIsForThoseWhoComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, _ := newStation(t, Config{Slots: 1, ServiceTime: 50 * time.Millisecond, Distribution: Constant})
		arrival := time.Now()
		before, finish, err := station.admit(t.Context(), arrival)
		if err != nil {
			t.Fatal(err)
		}
		if err := station.SetSlowdown(2); err != nil {
			t.Fatal(err)
		}
		after, later, err := station.admit(t.Context(), arrival)
		if err != nil {
			t.Fatal(err)
		}
		if before.Service != 50*time.Millisecond || finish.Sub(arrival) != 50*time.Millisecond ||
			after.Wait != 50*time.Millisecond || later.Sub(finish) != 100*time.Millisecond {
			t.Errorf("before %+v until %v, after %+v until %v", before, finish.Sub(arrival), after, later.Sub(arrival))
		}
		for _, factor := range []float64{0, -1, math.NaN(), math.Inf(1)} {
			if err := station.SetSlowdown(factor); err == nil {
				t.Errorf("a slow-down of %v was taken", factor)
			}
		}
	})
}

func TestColdStation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{
			Slots: 1, ServiceTime: 10 * time.Millisecond, Distribution: Constant, ColdFactor: 3, ColdFor: 10 * time.Second,
		})
		took := func() time.Duration {
			visit, err := station.Serve(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return visit.Service
		}
		if got := took(); got != 30*time.Millisecond {
			t.Errorf("before the start a request takes %v, want 30ms", got)
		}
		station.Started()
		time.Sleep(5 * time.Second)
		station.Started() // changes nothing
		expectMetrics(t, registry, `spillway_capacity_service_seconds_mean 0.02`)
		if got := took(); got != 20*time.Millisecond {
			t.Errorf("half through a request takes %v, want 20ms", got)
		}
		time.Sleep(5 * time.Second)
		if got := took(); got != 10*time.Millisecond {
			t.Errorf("warm a request takes %v, want 10ms", got)
		}
		expectMetrics(t, registry, `spillway_capacity_service_seconds_mean 0.01`)
	})
}

// The start's own work takes slots from requests and counts as CPU used.
func TestOccupy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		station, registry := newStation(t, Config{Slots: 4, ServiceTime: 100 * time.Millisecond, Distribution: Constant})
		station.Occupy(t.Context(), 0.75, 10*time.Second)()
		station.Occupy(t.Context(), 0, time.Hour)()
		station.Occupy(t.Context(), 1, 0)()
		time.Sleep(2 * time.Second)
		expectMetrics(t, registry, `spillway_capacity_busy_slots 3`, `spillway_capacity_utilization_ratio 0.75`,
			`spillway_capacity_busy_seconds_total 6`, `spillway_capacity_cpu_seconds_total 1.5`)
		for i, want := range []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond} {
			if visit, _, err := station.admit(t.Context(), time.Now()); err != nil || visit.Wait != want {
				t.Errorf("request %d waits %v, %v, want %v: one slot is left", i, visit.Wait, err, want)
			}
		}
		time.Sleep(8 * time.Second)
		expectMetrics(t, registry, `spillway_capacity_busy_slots 0`, `spillway_capacity_cpu_seconds_total 7.575`)
	})
}

package fault

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"
)

// handOver ends an injector and has another take over from what it wrote down.
func handOver(t *testing.T, i *Injector, target Mesh, away time.Duration) *Injector {
	t.Helper()
	kept, err := i.Keep()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	i.Leave()
	time.Sleep(away)
	var read Kept
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	next := newInjector(t, target)
	if err := next.Restore(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAnotherInjectorTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		first := newInjector(t, s)
		if _, err := first.SetKnob(t.Context(), "order", slowdownKnob, "2"); err != nil {
			t.Fatal(err)
		}
		begin(t, first, latency, 10*time.Second)
		begin(t, first, Fault{SlowStart: &SlowStart{Service: "order", Delay: time.Second}}, 0)
		begin(t, first, redisDown, 20*time.Second)
		const all = "order:1, order.capacity.slowdown=2, order.start.delay=1.5s, down redis"
		is(t, s, all)

		second := handOver(t, first, s, 5*time.Second)
		is(t, s, all)
		if got, want := words(second.List()), words(first.List()); got != want {
			t.Errorf("in force are %s, want %s", got, want)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		is(t, s, "order.capacity.slowdown=2, order.start.delay=1.5s, down redis")
		if got := begin(t, second, slow("order", 3), 0).GetId(); got != "4" {
			t.Errorf("the next fault is number %s, want 4", got)
		}

		// While nobody was there the time of one went by.
		third := handOver(t, second, s, time.Minute)
		is(t, s, "order.capacity.slowdown=6, order.start.delay=1.5s")
		if err := third.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		is(t, s, "")
	})
}

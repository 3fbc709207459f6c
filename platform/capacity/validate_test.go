package capacity

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestValidate runs the whole validation on the bubble's clock, where stations are never late: what is left is the
// error of the estimate itself, here with fewer requests of the model than Validate takes. Seeds are fixed, so the
// result is always the same.
func TestValidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results, err := validate(t.Context(), Options{Duration: 20 * time.Second, Seed: 1}, func(rho float64) int { return modelRequests(rho) / 16 })
		if err != nil {
			t.Fatal(err)
		}
		if len(results) != 6 {
			t.Fatalf("%d results, want 6", len(results))
		}
		for _, r := range results {
			t.Logf("ρ = %.2f, K = %d, S = %v: mean wait %v, Erlang C %v, off by %.1f %%, %d requests", r.Rho, r.Slots, r.ServiceTime, r.Got, r.Want, 100*r.RelErr, r.Arrivals)
			if r.Want != ErlangC(r.Rho, r.Slots, r.ServiceTime) || r.Want < 29*time.Millisecond {
				t.Errorf("ρ = %v, K = %d: wanted wait %v", r.Rho, r.Slots, r.Want)
			}
			if r.RelErr > 0.15 {
				t.Errorf("ρ = %v, K = %d: mean wait %v, want %v within 15 %%", r.Rho, r.Slots, r.Got, r.Want)
			}
			if want := 20 / r.ServiceTime.Seconds() * float64(r.Slots) * r.Rho; float64(r.Arrivals) < want/2 || float64(r.Arrivals) > 2*want {
				t.Errorf("ρ = %v, K = %d: %d requests, want about %.0f", r.Rho, r.Slots, r.Arrivals, want)
			}
		}
	})
}

// TestRunAddsNothing: on a clock without jitter the real station's part of the estimate is exactly 0.
func TestRunAddsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Result{Rho: 0.8, Slots: 2, ServiceTime: 20 * time.Millisecond}
		if excess, err := r.run(t.Context(), time.Minute, 1); err != nil || excess != 0 || r.LatenessP50 != 0 || r.Arrivals < 3_000 {
			t.Errorf("got %v, %v, %+v, want no difference from the model over some 4800 requests", excess, err, r)
		}
	})
}

func TestValidateEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		r := Result{Rho: 0.8, Slots: 2, ServiceTime: 20 * time.Millisecond}
		if _, err := r.run(ctx, time.Hour, 1); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v, want Canceled after 1s", err, time.Since(begin))
		}
		if results, err := Validate(ctx, Options{Duration: time.Hour, Seed: 1}); !errors.Is(err, context.Canceled) || results != nil {
			t.Errorf("got %v, %v, want Canceled", results, err)
		}
	})
}

func TestRunNeedsRequests(t *testing.T) {
	r := Result{Rho: 0.5, Slots: 1, ServiceTime: time.Hour}
	if _, err := r.run(t.Context(), time.Millisecond, 1); err == nil {
		t.Error("no request in the time given: want an error")
	}
}

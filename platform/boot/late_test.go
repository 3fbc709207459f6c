package boot_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/problem"
)

// TestARefusalForLackOfTimeIsAKnob: what cannot end in time is refused at once, or takes its slot for nothing.
func TestARefusalForLackOfTimeIsAKnob(t *testing.T) {
	var app *boot.App
	r := boottest.Start(t, spec(&service{}, func(a *boot.App) error { app = a; return nil }),
		"SPILLWAY_CAPACITY_SLOTS=1", "SPILLWAY_CAPACITY_SERVICE_TIME=1h", "SPILLWAY_CAPACITY_DISTRIBUTION=constant", "SPILLWAY_DEADLINE_SHAVE=200ms")
	r.WaitServing()
	hurried := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		_, err := do(ctx, r.Conn, "")
		return err
	}
	const refused, slots = "spillway_capacity_refused_total", "spillway_capacity_busy_slots"
	if err := hurried(20 * time.Second); problem.Reason(err) != problem.DeadlineTooShort || metric(t, r, refused) != 1 || metric(t, r, slots) != 0 {
		t.Errorf("an hour's work in 20s gives %v, %v refused, %v slots busy", err, metric(t, r, refused), metric(t, r, slots))
	}
	if err := app.Knobs().Apply(map[string]string{"deadline.refuse": "false"}); err != nil {
		t.Fatal(err)
	}
	// Less time than the shave, which is refused before the slots otherwise.
	if err := hurried(100 * time.Millisecond); status.Code(err) != codes.DeadlineExceeded || problem.Reason(err) == problem.DeadlineTooShort {
		t.Errorf("where nothing is refused it gives %v", err)
	}
	eventually(t, "the slot is taken for nothing", func() bool { return metric(t, r, slots) == 1 })
	if n := metric(t, r, refused); n != 1 {
		t.Errorf("%v are refused", n)
	}
}

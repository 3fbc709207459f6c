package deadline

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"spillway.dev/platform/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDecide(t *testing.T) {
	now := time.Unix(1000, 0)
	s := Shave(5 * time.Millisecond)
	if got, err := s.decide(now, now.Add(time.Second)); err != nil || !got.Equal(now.Add(995*time.Millisecond)) {
		t.Errorf("of one second, %v and %v come out", got.Sub(now), err)
	}
	for _, left := range []time.Duration{5 * time.Millisecond, time.Millisecond, 0, -time.Second} {
		if got, err := s.decide(now, now.Add(left)); problem.Reason(err) != problem.DeadlineTooShort {
			t.Errorf("of %v, %v and %v come out", left, got.Sub(now), err)
		}
	}
}

func TestOnlyWhatIsToldGetsShorter(t *testing.T) {
	if ctx, err := Shave(time.Second).apply(context.Background()); err != nil || ctx != context.Background() {
		t.Errorf("a call without a deadline becomes %v, %v", ctx, err)
	}
	parent, cancel := context.WithTimeout(t.Context(), time.Hour)
	ctx, err := Shave(time.Minute).apply(parent)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := parent.Deadline()
	if after, ok := ctx.Deadline(); !ok || !after.Equal(before.Add(-time.Minute)) {
		t.Errorf("the deadline went from %v to %v", before, after)
	}
	// What derives from it still ends with its parent.
	child, stop := context.WithTimeout(ctx, 2*time.Hour)
	defer stop()
	cancel()
	<-child.Done()
	if ctx.Err() == nil {
		t.Error("it lives on after its parent")
	}
}

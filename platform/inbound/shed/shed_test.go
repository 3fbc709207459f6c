package shed

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

// newShedder is a shedder in front of slots for which one always waits that long.
func newShedder(tb testing.TB, wait time.Duration, values map[string]string) *Shedder {
	tb.Helper()
	reg, set := prometheus.NewRegistry(), knobs.NewSet()
	refused, err := refusal.New(reg)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(set, reg, refused, func(time.Time) time.Duration { return wait })
	if err != nil {
		tb.Fatal(err)
	}
	if err := set.Apply(values); err != nil {
		tb.Fatal(err)
	}
	return s
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

// A call and a stream that are refused do not reach their handlers; off, both do.
func TestRefusedCallsGoNoFurther(t *testing.T) {
	for mode, want := range map[string]string{"priority": problem.Overloaded, "off": ""} {
		s := newShedder(t, time.Second, map[string]string{"shed.mode": mode})
		s.level.admit = 128
		ctx := criticality.With(t.Context(), criticality.Standard, 0)
		handled := 0
		_, err := s.Unary(ctx, nil, nil, func(context.Context, any) (any, error) { handled++; return nil, nil })
		if problem.Reason(err) != want {
			t.Errorf("%s: a call gives %v", mode, err)
		}
		err = s.Stream(nil, stream{ctx: ctx}, nil, func(any, grpc.ServerStream) error { handled++; return nil })
		if problem.Reason(err) != want || (handled == 0) == (want == "") {
			t.Errorf("%s: a stream gives %v; %d were handled", mode, err, handled)
		}
		// The most urgent come through.
		ctx = criticality.With(t.Context(), criticality.Critical, 127)
		if _, err := s.Unary(ctx, nil, nil, func(context.Context, any) (any, error) { return nil, nil }); err != nil {
			t.Errorf("%s: a critical call gives %v", mode, err)
		}
	}
}

func BenchmarkShedder(b *testing.B) {
	for _, mode := range []string{off, priority} {
		for name, wait := range map[string]time.Duration{"admitted": 0, "refused": time.Second} {
			b.Run(mode+"/"+name, func(b *testing.B) {
				s := newShedder(b, wait, map[string]string{"shed.mode": mode})
				ctx := criticality.With(b.Context(), criticality.Sheddable, 64)
				handler := func(context.Context, any) (any, error) { return nil, nil }
				b.ReportAllocs()
				for b.Loop() {
					_, _ = s.Unary(ctx, nil, nil, handler) // either is what is measured
				}
			})
		}
	}
}

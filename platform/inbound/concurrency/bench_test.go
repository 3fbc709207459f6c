package concurrency

import (
	"context"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"

	"spillway.dev/platform/capacity"
)

// BenchmarkCall is what a call pays for each mode, beside the bare library and nothing at all.
func BenchmarkCall(b *testing.B) {
	handler := func(context.Context, any) (any, error) { return nil, nil }
	b.Run("none", func(b *testing.B) {
		for b.Loop() {
			_, _ = handler(b.Context(), nil)
		}
	})
	b.Run("bare failsafe-go", func(b *testing.B) {
		library := adaptivelimiter.NewBuilder[any]().WithLimits(lowest, highest, 20).Build()
		for b.Loop() {
			if permit, ok := library.TryAcquirePermit(); ok {
				_, _ = handler(b.Context(), nil)
				permit.Record()
			}
		}
	})
	for _, mode := range []string{modeOff, modeAdaptive, modeAIMD} {
		r := newReplica(b, capacity.Config{Slots: 10, ServiceTime: time.Millisecond, Distribution: capacity.Constant}, mode)
		b.Run(mode, func(b *testing.B) {
			for b.Loop() {
				_, _ = r.limiter.Unary(b.Context(), nil, nil, handler)
			}
		})
		if mode == modeOff {
			continue
		}
		b.Run(mode+", refused", func(b *testing.B) {
			g := r.limiter.gate.Load()
			g.inFlight += 2 * highest
			for b.Loop() {
				if _, err := r.limiter.Unary(b.Context(), nil, nil, handler); err == nil {
					b.Fatal("let in")
				}
			}
			g.inFlight -= 2 * highest
		})
	}
}

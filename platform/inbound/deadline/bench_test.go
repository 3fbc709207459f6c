package deadline

import (
	"context"
	"testing"
	"time"
)

// BenchmarkUnary is a call that came with a deadline, and one that is given the default, beside what giving it takes.
func BenchmarkUnary(b *testing.B) {
	handler := func(context.Context, any) (any, error) { return nil, nil }
	limits := Config{Default: 5 * time.Second, Minimum: 5 * time.Millisecond}
	bounded, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
			_, _ = handler(ctx, nil)
			cancel()
		}
	})
	for name, ctx := range map[string]context.Context{"given": bounded, "default": b.Context()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := limits.Unary(ctx, nil, nil, handler); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

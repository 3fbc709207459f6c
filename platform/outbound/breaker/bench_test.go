package breaker

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
	"google.golang.org/grpc"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/refusal"
)

func benched(b *testing.B, values map[string]string) *Breaker {
	b.Helper()
	reg, set := prometheus.NewRegistry(), knobs.NewSet()
	refused, err := refusal.New(reg)
	if err != nil {
		b.Fatal(err)
	}
	all, err := New(set, refused, reg)
	if err != nil {
		b.Fatal(err)
	}
	c := all.For("bank")
	if err := set.Apply(values); err != nil {
		b.Fatal(err)
	}
	return c
}

func run(b *testing.B, c *Breaker, err error) {
	b.ReportAllocs()
	ctx := b.Context()
	answer := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return err }
	for b.Loop() {
		_ = c.Unary(ctx, "/m", nil, nil, nil, answer)
	}
}

// BenchmarkCall is one call through the breaker, beside the bare library.
func BenchmarkCall(b *testing.B) {
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		bare := gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{Interval: window, BucketPeriod: window / 10})
		for b.Loop() {
			if done, err := bare.Allow(); err == nil {
				done(nil)
			}
		}
	})
	b.Run("off", func(b *testing.B) { run(b, benched(b, nil), nil) })
	b.Run("closed", func(b *testing.B) { run(b, benched(b, on), nil) })
	b.Run("open", func(b *testing.B) {
		run(b, benched(b, map[string]string{"breaker.mode": "on", "breaker.open_for": "10m"}), away)
	})
}

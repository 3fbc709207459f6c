package pacing

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/ratelimit"
	"google.golang.org/grpc"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/refusal"
)

// BenchmarkCall is one call through the pacer, at a rate at which none waits, beside the bare library.
func BenchmarkCall(b *testing.B) {
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		bare := ratelimit.New(1, ratelimit.Per(time.Nanosecond), ratelimit.WithoutSlack)
		for b.Loop() {
			bare.Take()
		}
	})
	b.Run("reserve", func(b *testing.B) {
		b.ReportAllocs()
		var s schedule
		var now time.Duration
		for b.Loop() {
			now++
			s.reserve(now, 1, math.MaxInt64)
		}
	})
	for name, values := range map[string]map[string]string{
		"off":     nil,
		"on":      {"pacing.mode": "share", "pacing.bank.per_second": "1000000"},
		"refused": {"pacing.mode": "share", "pacing.bank.per_second": "0.000001", "pacing.max_wait": "0s"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			reg, set := prometheus.NewRegistry(), knobs.NewSet()
			refused, err := refusal.New(reg)
			if err != nil {
				b.Fatal(err)
			}
			all, err := New(set, refused, reg)
			if err != nil {
				b.Fatal(err)
			}
			c, ctx := all.For("bank"), b.Context()
			if err := set.Apply(values); err != nil {
				b.Fatal(err)
			}
			answer := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
			for b.Loop() {
				c.begin = c.begin.Add(-time.Millisecond) // time goes by, so that none waits
				_ = c.Unary(ctx, "/m", nil, nil, nil, answer)
			}
		})
	}
}

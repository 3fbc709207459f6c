package bulkhead

import (
	"context"
	"testing"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/refusal"
)

// BenchmarkCall is one call through the bulkhead, beside the library that was passed over.
func BenchmarkCall(b *testing.B) {
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		bare := bulkhead.New[any](100)
		for b.Loop() {
			if bare.TryAcquirePermit() {
				bare.ReleasePermit()
			}
		}
	})
	for _, mode := range []string{"off", "on"} {
		b.Run(mode, func(b *testing.B) {
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
			if err := set.Apply(map[string]string{"bulkhead.mode": mode}); err != nil {
				b.Fatal(err)
			}
			answer := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
			for b.Loop() {
				_ = c.Unary(ctx, "/m", nil, nil, nil, answer)
			}
		})
	}
}

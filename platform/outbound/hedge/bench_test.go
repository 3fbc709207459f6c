package hedge

import (
	"context"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"google.golang.org/grpc"

	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// BenchmarkCall is a read that is answered in time, beside the policy that
// failsafe-go offers for the same.
func BenchmarkCall(b *testing.B) {
	well := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	reply := &inventoryv1.GetAvailabilityResponse{}
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		all, ctx := failsafe.With(hedgepolicy.NewWithDelay[any](50*time.Millisecond)), b.Context()
		for b.Loop() {
			if err := all.WithContext(ctx).Run(func() error { return well(ctx, read, nil, reply, nil) }); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, mode := range []string{"off", "on"} {
		b.Run(mode, func(b *testing.B) {
			b.ReportAllocs()
			h := hedging(b, "0.1")
			if mode == "off" {
				if err := h.set.Apply(nil); err != nil {
					b.Fatal(err)
				}
			}
			ctx := b.Context()
			for b.Loop() {
				if err := h.Unary(ctx, read, nil, reply, nil, well); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package admission

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/refusal"
)

// BenchmarkGate is what a call pays at the edge. No library decides by route on what answers tell.
func BenchmarkGate(b *testing.B) {
	handler := func(context.Context, any) (any, error) { return nil, nil }
	info := &grpc.UnaryServerInfo{FullMethod: "/spillway.gateway.v1.GatewayService/Buy"}
	for _, mode := range []string{off, route} {
		b.Run(mode, func(b *testing.B) {
			reg, set := prometheus.NewRegistry(), knobs.NewSet()
			refused, err := refusal.New(reg)
			if err != nil {
				b.Fatal(err)
			}
			gate, err := New(set, reg, refused)
			if err != nil {
				b.Fatal(err)
			}
			if err := set.Apply(map[string]string{"admission.mode": mode}); err != nil {
				b.Fatal(err)
			}
			ctx := criticality.With(b.Context(), criticality.Standard, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := gate.Unary(ctx, nil, info, handler); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

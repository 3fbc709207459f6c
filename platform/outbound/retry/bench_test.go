package retry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	lib "github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"google.golang.org/grpc"

	"spillway.dev/platform/knobs"
)

// BenchmarkCall is a call that succeeds, beside the policy that failsafe-go
// offers for the same.
func BenchmarkCall(b *testing.B) {
	well := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		policy := retrypolicy.NewBuilder[any]().WithMaxAttempts(3).WithBackoff(baseWait, maxWait).WithJitterFactor(1).
			WithBudget(lib.NewBuilder().WithMaxRate(0.1).Build()).Build()
		all, ctx := failsafe.With(policy), b.Context()
		for b.Loop() {
			if err := all.WithContext(ctx).Run(func() error { return well(ctx, hold, nil, nil, nil) }); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, mode := range []string{Plain, Budget, Naive} {
		b.Run(mode, func(b *testing.B) {
			b.ReportAllocs()
			set := knobs.NewSet()
			p := policy(b, 3, set).For("inventory")
			apply(b, set, map[string]string{"retry.mode": mode})
			ctx := b.Context()
			for b.Loop() {
				if err := p.Unary(ctx, hold, nil, nil, nil, well); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWait is how long to wait, which the library decides.
func BenchmarkWait(b *testing.B) {
	b.ReportAllocs()
	var sum time.Duration
	for b.Loop() {
		rests := waits()
		sum += rests.NextBackOff()
	}
	if sum == 0 {
		b.Fatal(errors.New("no wait at all"))
	}
}

package budget

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"spillway.dev/platform/knobs"
)

// BenchmarkBudget is what a call pays in good times, with a full bucket, and in
// bad ones, when each wants to be sent again. No library has a budget of what is
// sent; failsafe-go's, of what is under way, is part of BenchmarkCall in retry.
func BenchmarkBudget(b *testing.B) {
	build := func(b *testing.B) (*Account, *Spender) {
		b.Helper()
		all, err := New(knobs.NewSet(), prometheus.NewRegistry())
		if err != nil {
			b.Fatal(err)
		}
		account := all.For("inventory")
		return account, account.Spender("retry")
	}
	b.Run("full", func(b *testing.B) {
		b.ReportAllocs()
		all, _ := build(b)
		for b.Loop() {
			all.Earn()
		}
	})
	b.Run("spent", func(b *testing.B) {
		b.ReportAllocs()
		all, spender := build(b)
		for b.Loop() {
			all.Earn()
			spender.Spend()
		}
	})
	b.Run("spent by all cores", func(b *testing.B) {
		b.ReportAllocs()
		all, spender := build(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				all.Earn()
				spender.Spend()
			}
		})
	})
}

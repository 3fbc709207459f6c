package queue

import (
	"context"
	"testing"
	"time"

	"spillway.dev/platform/capacity"
)

// BenchmarkCall is what a call pays that does not have to wait, beside a channel as a bare semaphore.
func BenchmarkCall(b *testing.B) {
	handler := func(context.Context, any) (any, error) { return nil, nil }
	b.Run("bare channel", func(b *testing.B) {
		slots := make(chan struct{}, 10)
		for b.Loop() {
			slots <- struct{}{}
			_, _ = handler(b.Context(), nil)
			<-slots
		}
	})
	for _, m := range []mode{off, fifo, newestFirst} {
		f := newFront(b, capacity.Config{Slots: 10, ServiceTime: time.Millisecond, Distribution: capacity.Constant},
			map[string]string{"queue.mode": string(m)})
		b.Run(string(m), func(b *testing.B) {
			for b.Loop() {
				_, _ = f.queue.Unary(b.Context(), nil, nil, handler)
			}
		})
	}
	// The decision alone, in a line of a hundred that stands: one comes, one leaves.
	for _, m := range []mode{fifo, newestFirst} {
		b.Run("decision, "+string(m), func(b *testing.B) {
			l := &line{mode: m, slots: 1}
			for range 101 {
				l.arrive(at(0), &call{arrived: at(0), entered: at(0)}, 1000, time.Millisecond)
			}
			now := at(time.Hour)
			for b.Loop() {
				c := &call{arrived: now, entered: now}
				l.arrive(now, c, 1000, time.Millisecond)
				l.past--
				l.next(now, now, time.Millisecond)
			}
		})
	}
}

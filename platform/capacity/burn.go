package capacity

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// burners are the slots of a station that burns CPU. Who waits for a slot waits in line: a channel serves its senders in
// the order in which they came.
type burners struct {
	slots  chan struct{}
	queued atomic.Int64
	burnt  atomic.Int64 // CPU time, ns
}

func newBurners(slots int) *burners { return &burners{slots: make(chan struct{}, slots)} }

// load tells the state now, as queue.load does for the model.
func (b *burners) load() load {
	return load{busy: len(b.slots), queued: int(b.queued.Load()), worked: time.Duration(b.burnt.Load())}
}

// occupy keeps n slots burning for d, in wall time: how long a start takes does not depend on how much CPU it gets.
func (b *burners) occupy(ctx context.Context, n int, d time.Duration) (wait func()) {
	until := time.Now().Add(d)
	var threads sync.WaitGroup
	for range n {
		threads.Go(func() {
			ctx, cancel := context.WithDeadline(ctx, until)
			defer cancel()
			if b.enter(ctx) {
				defer b.leave()
				b.burn(ctx, d)
			}
		})
	}
	return threads.Wait
}

// slice is how much CPU is burnt between two looks at the clock: short against any service time, long against a look,
// which takes some 0.3 µs.
const slice = 50 * time.Microsecond

// burn keeps one thread at work until that thread has used service of CPU time, or ctx ends. CPU time, not wall time:
// where more threads want to work than there are cores, each of them takes longer, as real work does.
func (b *burners) burn(ctx context.Context, service time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := threadCPU()
	for used := time.Duration(0); used < service && ctx.Err() == nil; {
		for stop := time.Now().Add(min(slice, service-used)); time.Now().Before(stop); {
			// Asking for the time is the work.
		}
		now := threadCPU() - begin
		b.burnt.Add(int64(now - used))
		used = now
	}
}

// burn is Serve of a station that burns. A request waits its turn for a slot. One that can no longer be done in time is
// refused as soon as that is certain: how long those before it will take is not known here. Where nothing is refused it
// waits, and burns, until its time is over.
func (s *Station) burn(ctx context.Context, arrival time.Time) (Visit, error) {
	s.mu.Lock()
	service := s.draw(time.Since(s.epoch))
	s.mu.Unlock()

	turn := ctx // ends when it is too late to begin
	deadline, bounded := ctx.Deadline()
	bounded = bounded && !s.patient.Load()
	if bounded {
		var cancel context.CancelFunc
		turn, cancel = context.WithDeadline(ctx, deadline.Add(-service))
		defer cancel()
	}
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	if !s.burners.enter(turn) {
		wait := time.Since(arrival)
		if bounded && !errors.Is(ctx.Err(), context.Canceled) {
			s.refused.Inc()
			return Visit{}, &TooLateError{Wait: wait, Service: service, Late: time.Until(deadline.Add(-service)).Abs()}
		}
		return Visit{Wait: wait, Service: service}, ctx.Err()
	}
	defer s.burners.leave()
	visit := Visit{Wait: time.Since(arrival), Service: service}
	s.wait.Observe(visit.Wait.Seconds())
	s.burners.burn(ctx, service)
	return visit, ctx.Err()
}

// enter takes a slot and tells whether it did before turn ended.
func (b *burners) enter(turn context.Context) bool {
	if turn.Err() != nil {
		return false
	}
	select {
	case b.slots <- struct{}{}:
		return true
	default:
	}
	b.queued.Add(1)
	defer b.queued.Add(-1)
	select {
	case b.slots <- struct{}{}:
		return true
	case <-turn.Done():
		return false
	}
}

func (b *burners) leave() { <-b.slots }

package boot

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// attemptTimeout bounds one attempt to reach a dependency: one that hangs must not hide that it is back.
	attemptTimeout = time.Second
	// Back-off between attempts: short at first since stores and services start together, and never so long that a store
	// which is back waits to be noticed.
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 2 * time.Second
)

// dependency is something to be reached, and how that went.
type dependency struct {
	name    string
	connect func(context.Context) error

	mu      sync.Mutex
	reached bool
	last    error
}

func (d *dependency) note(err error) (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first = d.last == nil || err == nil
	d.reached, d.last = err == nil, err
	return first
}

func (d *dependency) status() (reached bool, last error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reached, d.last
}

// require waits for everything that the service cannot do without, or until ctx ends.
func (r *replica) require(ctx context.Context) {
	select {
	case <-r.attempt(r.app.required):
	case <-ctx.Done():
	}
}

// reach begins to try every dependency, and waits for all of them until ctx ends. Those that are away then are tried on
// in the background until the drain.
func (r *replica) reach(ctx context.Context) {
	select {
	case <-r.attempt(r.app.dependencies):
	case <-ctx.Done():
		for _, d := range r.app.dependencies {
			if reached, last := d.status(); !reached {
				r.app.log.Warn("going on without a dependency", "dependency", d.name, "error", last)
			}
		}
	}
}

// attempt begins to try dependencies; what it returns is closed when no more is tried.
func (r *replica) attempt(dependencies []*dependency) <-chan struct{} {
	var pending sync.WaitGroup
	for _, d := range dependencies {
		pending.Add(1)
		r.background.Go(func() {
			defer pending.Done()
			r.try(d)
		})
	}
	all := make(chan struct{})
	r.background.Go(func() {
		pending.Wait()
		close(all)
	})
	return all
}

func (r *replica) try(d *dependency) {
	begin := time.Now()
	for wait := range backoff() {
		ctx, cancel := context.WithTimeout(r.app.ctx, attemptTimeout)
		err := d.connect(ctx)
		cancel()
		first := d.note(err)
		if err == nil {
			r.app.log.Info("dependency reached", "dependency", d.name, "took", since(begin))
			return
		}
		if r.app.ctx.Err() != nil {
			return
		}
		if first { // the same again every two seconds would drown the log
			r.app.log.Warn("dependency away, trying on", "dependency", d.name, "error", err)
		}
		if !sleep(r.app.ctx, wait) {
			return
		}
	}
}

// backoff yields waits that double from backoffFirst to backoffMost, each less up to a quarter by chance so that replicas
// which started together do not try together.
func backoff() iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		for wait := backoffFirst; yield(wait - rand.N(wait/4)); wait = min(2*wait, backoffMost) {
		}
	}
}

// sleep waits for d and tells whether it did; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// since is for the log: JSON would show a duration as a bare number of nanoseconds.
func since(begin time.Time) string { return time.Since(begin).Round(time.Microsecond).String() }

package boot

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// lastScrape lets a replica be read once more when all its work is done. Whoever scrapes every ten seconds never sees
// what a replica counted in its last ones: sums over replicas that come and go are then short.
type lastScrape struct {
	open atomic.Bool // the work is done; who asks from now on gets the final figures
	once sync.Once
	read chan struct{} // closed when somebody has got them
}

func newLastScrape() *lastScrape { return &lastScrape{read: make(chan struct{})} }

// watch is h, with those who ask noticed.
func (l *lastScrape) watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		final := l.open.Load()
		h.ServeHTTP(w, req)
		if final {
			l.once.Do(func() { close(l.read) })
		}
	})
}

// wait returns when the final figures were read, or after the bound.
func (l *lastScrape) wait(bound time.Duration) {
	if bound <= 0 {
		return
	}
	l.open.Store(true)
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-l.read:
	case <-timer.C:
	}
}

// flushed bounds how long an answer that was given may take to leave.
const flushed = 100 * time.Millisecond

// endAdmin closes the admin port once the figures were read.
func (r *replica) endAdmin() {
	r.scraped.wait(r.cfg.DrainLastScrape)
	ctx, cancel := context.WithTimeout(context.Background(), flushed)
	defer cancel()
	if r.admin.Shutdown(ctx) != nil {
		_ = r.admin.Close() // a profile under way has no claim
	}
}

package backpressure

import (
	"sync"
	"time"
)

const (
	// window is the time over which calls are counted.
	window = time.Second
	// slices is how many parts it has: what is older than the window leaves it a part at a time.
	slices = 10
	slice  = window / slices
)

// Meter counts calls in the last second. It is safe for concurrent use.
type Meter struct {
	mu    sync.Mutex
	calls [slices]int
	last  int64 // the slice that is counted in now, since the epoch of time.Time
	begin int64 // the slice of the first call
}

// Count counts a call that comes at now.
func (m *Meter) Count(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forward(now)
	m.calls[m.last%slices]++
}

// Rate is the calls a second at now. In the first second it is of the time that there was.
func (m *Meter) Rate(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forward(now)
	sum := 0
	for _, n := range m.calls {
		sum += n
	}
	// The present slice is not over: it and the part of the oldest that has left the window make up for each other.
	span := min(int64(slices), m.last-m.begin+1)
	return float64(sum) / (time.Duration(span) * slice).Seconds()
}

// forward lets go of the slices that have left the window. A clock that goes back changes nothing.
func (m *Meter) forward(now time.Time) {
	at := now.UnixNano() / int64(slice)
	if m.last == 0 {
		m.last, m.begin = at, at
	}
	for m.last = max(m.last, at-slices); m.last < at; {
		m.last++
		m.calls[m.last%slices] = 0
	}
}

package local

import (
	"sync"
	"time"
)

// events hands events to the callback outside of every lock, one at a time.
type events struct {
	report func(Event)

	mu    sync.Mutex
	queue []Event
	wake  chan struct{}
	end   bool
	work  sync.WaitGroup
}

func newEvents(report func(Event)) *events {
	e := &events{report: report, wake: make(chan struct{}, 1)}
	if report != nil {
		e.work.Go(e.run)
	}
	return e
}

// post never blocks.
func (e *events) post(event Event) {
	if e.report == nil {
		return
	}
	event.At = time.Now()
	e.mu.Lock()
	e.queue = append(e.queue, event)
	e.mu.Unlock()
	e.signal()
}

// close returns when everything that was posted has been reported.
func (e *events) close() {
	e.mu.Lock()
	e.end = true
	e.mu.Unlock()
	e.signal()
	e.work.Wait()
}

func (e *events) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) run() {
	for {
		e.mu.Lock()
		queue, end := e.queue, e.end
		e.queue = nil
		e.mu.Unlock()
		for _, event := range queue {
			e.report(event)
		}
		if len(queue) == 0 {
			if end {
				return
			}
			<-e.wake
		}
	}
}

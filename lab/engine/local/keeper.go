package local

import (
	"sync"
	"time"

	"spillway.dev/lab/engine/local/backoff"
	"spillway.dev/lab/engine/local/process"
)

// stopPatience is how long the control plane or Redis may take to end.
const stopPatience = 5 * time.Second

// keeper starts a process that is not a pod again whenever it ends, unless it is
// held.
type keeper struct {
	start  func() (*process.Process, error)
	report func(text string)

	mu       sync.Mutex
	now      *process.Process // nil while none runs
	since    time.Time
	restarts int32
	last     string
	held     chan struct{} // closed when it may be started again; nil while it may

	stop chan struct{}
	done chan struct{}
}

// keep starts the process; its first start must succeed.
func keep(report func(string), start func() (*process.Process, error)) (*keeper, error) {
	k := &keeper{start: start, report: report, stop: make(chan struct{}), done: make(chan struct{})}
	first, err := k.startUnlessHeld()
	if err != nil {
		return nil, err
	}
	go k.run(first)
	return k, nil
}

func (k *keeper) run(p *process.Process) {
	defer close(k.done)
	var crash backoff.Crash
	for p != nil {
		select {
		case <-k.stop:
			k.end(p)
			return
		case <-p.Done():
			p = k.again(p, &crash)
		}
	}
}

// again returns the process that takes the place of one that has ended, or nil
// when the keeper stops.
func (k *keeper) again(ended *process.Process, crash *backoff.Crash) *process.Process {
	k.mu.Lock()
	k.now, k.last = nil, ended.Ended()
	k.restarts++
	held := k.held != nil
	k.mu.Unlock()
	if held {
		k.report("stopped, as asked: " + ended.Ended())
	} else {
		k.report(ended.Ended() + ", it is started again")
	}
	for {
		k.mu.Lock()
		free := k.held
		k.mu.Unlock()
		if free != nil {
			select {
			case <-k.stop:
				return nil
			case <-free:
			}
		} else {
			select {
			case <-k.stop:
				return nil
			case <-time.After(crash.Next(time.Now())):
			}
		}
		next, err := k.startUnlessHeld()
		if err != nil {
			k.report(err.Error())
		}
		if next != nil {
			return next
		}
	}
}

// startUnlessHeld starts the process, or returns nil while it is held.
func (k *keeper) startUnlessHeld() (*process.Process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held != nil {
		return nil, nil
	}
	p, err := k.start()
	if err != nil {
		return nil, err
	}
	k.now, k.since = p, time.Now()
	return p, nil
}

// hold ends the process as a crash would and has it stay away until release. It
// returns when the process is gone.
func (k *keeper) hold() {
	k.mu.Lock()
	if k.held == nil {
		k.held = make(chan struct{})
	}
	p := k.now
	k.mu.Unlock()
	if p != nil {
		p.Kill()
		<-p.Done()
	}
}

// release has a process that was held started again, and tells whether it was.
func (k *keeper) release() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		return false
	}
	close(k.held)
	k.held = nil
	return true
}

// process is the one that runs now, or nil.
func (k *keeper) process() *process.Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

func (k *keeper) end(p *process.Process) {
	p.Terminate()
	select {
	case <-p.Done():
	case <-time.After(stopPatience):
		p.Kill()
		<-p.Done()
	}
	k.mu.Lock()
	k.now = nil
	k.mu.Unlock()
}

// kill ends the process as a crash would, and tells whether there was one.
func (k *keeper) kill() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil {
		k.now.Kill()
	}
	return k.now != nil
}

// close stops the process for good.
func (k *keeper) close() {
	close(k.stop)
	<-k.done
}

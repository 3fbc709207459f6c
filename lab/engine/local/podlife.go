package local

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"spillway.dev/lab/engine/local/backoff"
	"spillway.dev/lab/engine/local/probe"
	"spillway.dev/lab/engine/local/process"
)

// leastGrace is what is left of the grace period at least when the preStop sleep
// has used it up, as in Kubernetes.
const leastGrace = 2 * time.Second

// run is the pod's life. It returns when the pod was deleted and nothing of it
// runs.
func (p *pod) run() {
	select {
	case <-p.bound:
	case <-p.stop:
		return
	}
	var crash backoff.Crash
	for {
		if c, err := p.startContainer(); err != nil {
			p.note(err.Error(), func(s *podStatus) { s.reason = err.Error() })
		} else {
			ended, drained := p.watch(c)
			p.tell(Event{Text: ended, Cut: !drained}, func(s *podStatus) {
				s.process, s.paused = nil, false
				s.setReady(false, time.Now())
				s.reason = ended
				if !s.terminating {
					s.restarts++
				}
			})
		}
		select {
		case <-p.stop:
			return
		default:
		}
		wait := crash.Next(time.Now())
		p.note("", func(s *podStatus) { s.retryAt = time.Now().Add(wait) })
		timer := time.NewTimer(wait)
		select {
		case <-p.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// note changes the status and has the controller look at it. text, unless empty,
// becomes an event.
func (p *pod) note(text string, change func(*podStatus)) { p.tell(Event{Text: text}, change) }

// tell is note with more to say of the replica than a text.
func (p *pod) tell(event Event, change func(*podStatus)) {
	e := p.engine
	e.mu.Lock()
	change(&p.status)
	e.mu.Unlock()
	if event.Text != "" {
		event.Kind, event.Workload, event.Replica = EventReplica, p.workload, p.name
		e.events.post(event)
	}
	e.wakeUp()
}

func (p *pod) startContainer() (*process.Process, error) {
	select {
	case <-p.stop:
		return nil, fmt.Errorf("deleted before it started")
	default:
	}
	if _, err := os.Stat(p.image); err != nil {
		return nil, fmt.Errorf("%s is missing: build it with `make build`", p.image)
	}
	p.engine.mu.Lock()
	spec, err := p.spec()
	p.engine.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c, err := p.engine.replicas.Start(spec)
	if err != nil {
		return nil, err
	}
	p.note("started", func(s *podStatus) {
		s.process, s.startedAt, s.reason = c, time.Now(), ""
		if s.firstStart.IsZero() {
			s.firstStart = s.startedAt
		}
	})
	return c, nil
}

// watch stays with a running container until it has ended, and tells how it did,
// and whether it could drain. It ends the container when the pod is deleted or a
// probe demands it.
func (p *pod) watch(c *process.Process) (ended string, drained bool) {
	ctx, cancel := context.WithCancel(context.Background())
	sick := make(chan string, 2) // one from the startup and one from the liveness probe
	var probes sync.WaitGroup
	probes.Go(func() { p.probe(ctx, sick) })
	defer probes.Wait()
	defer cancel()

	select {
	case <-c.Done():
		return c.Ended(), false
	case <-p.stop:
		cancel()
		probes.Wait()
		return p.end(c)
	case why := <-sick:
		// It stays an endpoint until its readiness probe says otherwise.
		p.note(why, func(s *podStatus) { s.reason = why })
		ended, drained := p.end(c)
		return why + "; " + ended, drained
	}
}

// end takes a container through preStop sleep, SIGTERM and, when the grace
// period is over, SIGKILL.
func (p *pod) end(c *process.Process) (ended string, drained bool) {
	grace := time.Now().Add(p.grace())
	p.engine.mu.Lock()
	hasty := p.status.hasty
	p.engine.mu.Unlock()
	if sleep := min(p.preStop(), p.grace()); sleep > 0 && !hasty {
		timer := time.NewTimer(sleep)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.Done():
			return c.Ended(), false
		case <-p.engine.hurry:
		}
	}
	c.Terminate()
	timer := time.NewTimer(max(time.Until(grace), leastGrace))
	defer timer.Stop()
	select {
	case <-c.Done():
		return c.Ended(), !c.Signaled()
	case <-p.engine.hurry:
	case <-timer.C:
	}
	c.Kill()
	<-c.Done()
	return "killed: it was still there when its grace period was over", false
}

// probe runs the container's probes until ctx ends.
func (p *pod) probe(ctx context.Context, sick chan<- string) {
	asker := probe.NewAsker(p.address)
	defer asker.Close()
	spec := p.container()
	if spec.StartupProbe != nil {
		started, stop := context.WithCancel(ctx)
		defer stop()
		passed := false
		p.ask(started, asker, spec.StartupProbe, probe.Undecided, func(v probe.Verdict, err error) {
			if passed = v == probe.Passing; !passed {
				sick <- fmt.Sprintf("startup probe failed: %v", err)
			}
			stop()
		})
		if !passed {
			return
		}
	}
	var both sync.WaitGroup
	defer both.Wait()
	if spec.LivenessProbe != nil {
		both.Go(func() {
			alive, stop := context.WithCancel(ctx)
			defer stop()
			p.ask(alive, asker, spec.LivenessProbe, probe.Passing, func(_ probe.Verdict, err error) {
				sick <- fmt.Sprintf("liveness probe failed: %v", err)
				stop()
			})
		})
	}
	if spec.ReadinessProbe == nil {
		p.setReady(ctx, true, nil)
		return
	}
	p.ask(ctx, asker, spec.ReadinessProbe, probe.Undecided, func(v probe.Verdict, err error) {
		p.setReady(ctx, v == probe.Passing, err)
	})
}

// ask runs one probe until ctx ends. A probe that this engine cannot run says so
// once and counts as failing.
func (p *pod) ask(ctx context.Context, asker *probe.Asker, spec *corev1.Probe, initial probe.Verdict, changed func(probe.Verdict, error)) {
	timing, check, err := asker.New(spec)
	if err != nil {
		changed(probe.Failing, err)
		return
	}
	probe.Run(ctx, timing, initial, check, changed)
}

func (p *pod) setReady(ctx context.Context, ready bool, why error) {
	text := "ready"
	if !ready {
		text = fmt.Sprintf("not ready: %v", why)
	}
	p.note(text, func(s *podStatus) {
		if ctx.Err() != nil || s.process == nil {
			return
		}
		s.setReady(ready, time.Now())
		if s.reason = ""; !ready {
			s.reason = text
		}
	})
}

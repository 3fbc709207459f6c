package local

import (
	"context"
	"slices"
	"time"
)

// wakeUp has the controller look at everything soon.
func (e *Engine) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// control brings what runs in line with what is wanted, until ctx ends.
func (e *Engine) control(ctx context.Context) {
	for {
		again := e.reconcile()
		var timer <-chan time.Time
		if !again.IsZero() {
			timer = time.After(time.Until(again))
		}
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		case <-timer:
		}
	}
}

// reconcile takes every Deployment one step on, again and again until nothing
// changes, places pods, and announces the endpoints that result. It returns when to look again
// though nothing happens until then, or zero.
func (e *Engine) reconcile() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	var again time.Time
	for _, d := range e.sorted() {
		for !e.stopping {
			next, err := d.plan(now)
			if err != nil {
				e.events.post(Event{Kind: EventManifestError, Workload: d.name, Text: err.Error()})
				break
			}
			again = soonest(again, next.again)
			if next.create == 0 && len(next.delete) == 0 {
				break
			}
			for _, p := range next.delete {
				e.deletePod(p, false)
			}
			if err := e.createPods(d, next.create); err != nil {
				e.events.post(Event{Kind: EventReplica, Workload: d.name, Text: err.Error()})
				again = soonest(again, now.Add(time.Second))
				break
			}
		}
		if ready, _, _ := d.counts(); d.shown != [2]int{ready, d.wanted()} {
			d.shown = [2]int{ready, d.wanted()}
			e.events.post(Event{Kind: EventWorkload, Workload: d.name, Ready: ready, Wanted: d.wanted()})
		}
		if d.removed && len(d.pods) == 0 {
			delete(e.deployments, d.name)
		}
	}
	again = soonest(again, e.schedule(now))
	return soonest(again, e.announce())
}

// soonest is the earlier of two times, of which zero is none.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// createPods starts n pods. Engine.mu is held.
func (e *Engine) createPods(d *deployment, n int) error {
	for range n {
		p, err := e.newPod(d)
		if err != nil {
			return err
		}
		d.pods = append(d.pods, p)
		e.pods.Go(func() {
			p.run()
			e.mu.Lock()
			d.pods = slices.DeleteFunc(d.pods, func(other *pod) bool { return other == p })
			p.giveBack()
			e.mu.Unlock()
			close(p.done)
			e.events.post(Event{Kind: EventReplica, Workload: p.workload, Replica: p.name, Text: "gone"})
			e.wakeUp()
		})
	}
	return nil
}

// deletePod begins the end of a pod. Engine.mu is held.
func (e *Engine) deletePod(p *pod, hasty bool) {
	if p.status.terminating {
		return
	}
	p.delete(hasty)
	e.events.post(Event{Kind: EventReplica, Workload: p.workload, Replica: p.name, Text: "stopping"})
}

package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Down drains and stops the mesh: callers before those they call, so that what
// is in flight can finish, then what the mesh stands on. When ctx ends first the
// rest is killed. Nothing is left running either way. Further calls wait for the
// first and return what it returned.
func (e *Engine) Down(ctx context.Context) error {
	e.downOnce.Do(func() {
		e.downErr = e.bringDown(ctx)
		close(e.down)
		e.endAPI()
	})
	<-e.down
	return e.downErr
}

func (e *Engine) bringDown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { close(e.hurry) })
	defer stop()
	e.events.post(Event{Kind: EventStopping, Text: "draining"})
	e.mu.Lock()
	e.stopping = true
	// A replica that stands still could not drain.
	for _, d := range e.deployments {
		for _, p := range d.pods {
			p.resume()
		}
	}
	e.mu.Unlock()
	var errs []error
	for _, d := range e.doors {
		errs = append(errs, d.proxy.Refuse())
	}
	for i, stage := range e.stages() {
		// The preStop sleep lets callers learn that an endpoint is gone. Behind
		// the first stage there is no caller left.
		e.stopStage(stage, i > 0)
	}
	e.pods.Wait()
	e.halt()
	e.background.Wait()
	for _, d := range e.doors {
		errs = append(errs, d.proxy.Close())
	}
	errs = append(errs, e.closeClusterIPs())
	if e.conductor != nil {
		e.conductor.close()
	}
	if e.otlp != nil {
		e.otlp.Stop()
	}
	e.stopStores()
	if e.spawner != nil {
		e.spawner.Close()
		e.replicas.Close()
	}
	if e.ledger != nil {
		errs = append(errs, e.ledger.Remove())
		errs = append(errs, os.RemoveAll(filepath.Join(e.dir.path, "pods")))
	}
	errs = append(errs, e.ports.Close())
	if e.socket != "" {
		e.dir.retract(e.socket)
	}
	errs = append(errs, e.dir.release())
	if ctx.Err() != nil {
		errs = append(errs, fmt.Errorf("not everything had drained in time, the rest was killed: %w", ctx.Err()))
	}
	e.events.post(Event{Kind: EventStopped, Text: "stopped"})
	e.events.close()
	return errors.Join(errs...)
}

// endAPI ends the last servers. Whoever asked for the end through the API waits
// for an answer: calls in progress finish.
func (e *Engine) endAPI() {
	if e.api != nil {
		patience := time.AfterFunc(stopPatience, e.api.Stop)
		defer patience.Stop()
		e.api.GracefulStop()
	}
	e.servers.Wait()
}

// stages lists the Deployments in the order in which they stop.
func (e *Engine) stages() [][]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.manifests == nil {
		return nil
	}
	stages := e.manifests.Stages()
	for _, d := range e.sorted() {
		if !slices.ContainsFunc(stages, func(s []string) bool { return slices.Contains(s, d.name) }) {
			stages = append([][]string{{d.name}}, stages...)
		}
	}
	return stages
}

// stopStage deletes the pods of some Deployments and returns when they are gone.
func (e *Engine) stopStage(names []string, hasty bool) {
	e.mu.Lock()
	var pods []*pod
	for _, name := range names {
		if d := e.deployments[name]; d != nil {
			pods = append(pods, d.pods...)
		}
	}
	for _, p := range pods {
		e.deletePod(p, hasty)
	}
	e.mu.Unlock()
	e.wakeUp()
	for _, p := range pods {
		<-p.done
	}
}

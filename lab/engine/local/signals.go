package local

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// Pause stops n replicas of a Deployment with SIGSTOP, the oldest of those that run
// first; every one when n is 0 or fewer run. They stay endpoints until their probes
// fail, and hold what they were sent. It returns their names.
func (e *Engine) Pause(workload string, n int) ([]string, error) {
	names, err := e.act(workload, "", n, (*pod).pause)
	return names, orNobody(names, err, workload)
}

// Resume lets n paused replicas of a Deployment go on, the oldest first; every one
// when n is 0 or fewer are paused. It returns their names: none when those that
// were paused have ended since.
func (e *Engine) Resume(workload string, n int) ([]string, error) {
	return e.act(workload, "", n, (*pod).resume)
}

// Kill ends n replicas of a Deployment with SIGKILL, the oldest of those that run
// first, paused or not; every one when n is 0 or fewer run. Each is started again in
// place. It returns their names.
func (e *Engine) Kill(workload string, n int) ([]string, error) {
	names, err := e.act(workload, "", n, (*pod).kill)
	return names, orNobody(names, err, workload)
}

// act does something to n replicas of a Deployment, or to one by its name, and
// names those to whom it could be done. Those on their way out come last.
func (e *Engine) act(workload, replica string, n int, do func(*pod) bool) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, err := e.find(workload)
	if err != nil {
		return nil, err
	}
	if replica != "" && d.pod(replica) == nil {
		return nil, status.Errorf(codes.NotFound, "%s has no replica %q; `spillway ps` lists them", workload, replica)
	}
	pods := slices.Clone(d.pods) // the oldest first
	slices.SortStableFunc(pods, func(a, b *pod) int { return bit(a.status.terminating) - bit(b.status.terminating) })
	var names []string
	for _, p := range pods {
		if (replica == "" || replica == p.name) && (n <= 0 || len(names) < n) && do(p) {
			names = append(names, p.name)
		}
	}
	e.wakeUp()
	return names, nil
}

func orNobody(names []string, err error, workload string) error {
	if err == nil && len(names) == 0 {
		return status.Errorf(codes.FailedPrecondition, "nothing of %s runs at this moment", workload)
	}
	return err
}

// pause, resume and kill tell whether there was a process to do it to. Engine.mu
// is held.

func (p *pod) pause() bool {
	if p.status.process == nil || p.status.paused || p.status.terminating {
		return false
	}
	p.status.process.Pause()
	p.status.paused = true
	return true
}

func (p *pod) resume() bool {
	if p.status.process == nil || !p.status.paused {
		return false
	}
	p.status.process.Resume()
	p.status.paused = false
	return true
}

func (p *pod) kill() bool {
	if p.status.process == nil {
		return false
	}
	p.status.process.Kill()
	return true
}

// Pause implements EngineService.
func (e api) Pause(_ context.Context, request *enginev1.PauseRequest) (*enginev1.PauseResponse, error) {
	names, err := e.act(request.GetWorkload(), request.GetReplica(), 0, (*pod).pause)
	if err := orNobody(names, err, request.GetWorkload()); err != nil {
		return nil, err
	}
	return &enginev1.PauseResponse{Paused: names}, nil
}

// Resume implements EngineService.
func (e api) Resume(_ context.Context, request *enginev1.ResumeRequest) (*enginev1.ResumeResponse, error) {
	names, err := e.act(request.GetWorkload(), request.GetReplica(), 0, (*pod).resume)
	if err != nil {
		return nil, err
	}
	return &enginev1.ResumeResponse{Resumed: names}, nil
}

// Kill implements EngineService.
func (e api) Kill(_ context.Context, request *enginev1.KillRequest) (*enginev1.KillResponse, error) {
	if request.GetWorkload() == conductorName {
		if !e.conductor.kill() {
			return nil, status.Error(codes.FailedPrecondition, "the conductor is not running at this moment")
		}
		return &enginev1.KillResponse{Killed: []string{conductorName}}, nil
	}
	names, err := e.act(request.GetWorkload(), request.GetReplica(), 0, (*pod).kill)
	if err := orNobody(names, err, request.GetWorkload()); err != nil {
		return nil, err
	}
	return &enginev1.KillResponse{Killed: names}, nil
}

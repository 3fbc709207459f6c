package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"spillway.dev/platform/health"
	"spillway.dev/platform/lifecycle"
)

// What earlier drain steps must leave of SPILLWAY_DRAIN_TIMEOUT for those after them.
const (
	reserveWorkers   = 2 * time.Second
	reserveTelemetry = time.Second
	reserveClose     = 250 * time.Millisecond
)

// flushTimeout bounds the flush of telemetry even when there is time: a collector that is away is no reason to keep a
// replica, nor is what it misses a failure of the drain.
const flushTimeout = 2 * time.Second

// drain ends the replica; see lifecycle for the deadline. It returns an error when a step was cut.
func (r *replica) drain() error {
	results := lifecycle.Drain{
		Announce: lifecycle.Step{Name: "readiness", Run: r.announce},
		Delay:    r.cfg.DrainDelay,
		Timeout:  r.cfg.DrainTimeout,
		Steps:    r.drainSteps(),
	}.Run(r.app.log)
	r.endAdmin() // last, so that metrics can be read to the end
	if cut := lifecycle.Cut(results); len(cut) > 0 {
		return lifecycle.Err(slices.DeleteFunc(results, func(s lifecycle.Result) bool { return !s.Cut }))
	}
	return nil
}

// drainSteps is the one ordered list of what happens after the delay.
func (r *replica) drainSteps() []lifecycle.Step {
	var steps []lifecycle.Step
	for _, h := range r.app.https {
		// Before gRPC: their requests go on as calls to this replica's own server.
		steps = append(steps, lifecycle.Step{Name: h.name, Run: h.stop})
	}
	steps = append(steps,
		lifecycle.Step{Name: "grpc", Run: r.stopGRPC},
		lifecycle.Step{Name: "workers", Run: r.stopWorkers, Reserve: reserveWorkers},
		lifecycle.Step{Name: "telemetry", Run: r.flush, Reserve: reserveTelemetry},
	)
	for _, c := range slices.Backward(r.app.closers) {
		steps = append(steps, lifecycle.Step{Name: "close " + c.name, Run: c.run, Reserve: reserveClose})
	}
	return steps
}

// flush sends what telemetry still holds.
func (r *replica) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	return r.app.telemetry.Shutdown(ctx)
}

// announce takes the replica out of service: not ready, and no more tries to reach what is away.
func (r *replica) announce(context.Context) error {
	r.stop()
	return r.health.Set(health.Draining)
}

// stop refuses new connections, lets requests finish, and cuts those that do not in time.
func (h *httpListener) stop(ctx context.Context) error {
	if err := h.server.Shutdown(ctx); err != nil {
		return errors.Join(err, h.server.Close())
	}
	return nil
}

// stopGRPC lets calls finish; at the deadline it cancels those that have not.
func (r *replica) stopGRPC(ctx context.Context) error {
	r.health.EndWatches()
	done := make(chan struct{})
	go func() {
		r.app.server.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		r.app.server.Stop() // ends the contexts of all handlers, and with them GracefulStop
		<-done
		return fmt.Errorf("calls were cancelled that had not finished: %w", ctx.Err())
	}
}

// stopWorkers ends the workers' context and waits until each has finished what it holds.
func (r *replica) stopWorkers(ctx context.Context) error {
	r.stopWork()
	done := make(chan struct{})
	go func() {
		r.workers.Wait()
		r.background.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("workers have not finished: %w", ctx.Err())
	}
}

package boot

import (
	"context"
	"time"
)

// coldReady says when a replica that warms up by being used is ready.
type coldReady string

const (
	// readyAtOnce lets calls in while the replica is cold: the first ones are slow.
	readyAtOnce coldReady = "at-once"
	// readyAfter lets calls in when it is warm: until then it warms itself up.
	readyAfter coldReady = "after"
)

// coldStart is the start of a heavier runtime than this one, modelled: classes to load, code to compile, caches to fill.
type coldStart struct {
	// Delay is the least time from the start of the process until it can begin to warm up.
	Delay time.Duration `env:"SPILLWAY_START_DELAY" envDefault:"0s"`
	// CPU is the share of the slots that the start itself keeps busy until the replica is warm.
	CPU float64 `env:"SPILLWAY_START_CPU" envDefault:"0"`
	// ColdFor is how long a started replica is slow, ColdFactor how slow at first.
	ColdFor    time.Duration `env:"SPILLWAY_COLD_FOR" envDefault:"0s"`
	ColdFactor float64       `env:"SPILLWAY_COLD_FACTOR" envDefault:"1"`
	// ColdReady says on which side of ColdFor the replica gets ready.
	ColdReady coldReady `env:"SPILLWAY_COLD_READY" envDefault:"at-once"`
}

func (c *coldStart) check() []rule {
	return []rule{
		{"SPILLWAY_START_DELAY", c.Delay, c.Delay >= 0, "0s or more"},
		{"SPILLWAY_START_CPU", c.CPU, c.CPU >= 0 && c.CPU <= 1, "0 to 1, a share of the slots"},
		{"SPILLWAY_COLD_FOR", c.ColdFor, c.ColdFor >= 0, "0s (never cold) or more"},
		{"SPILLWAY_COLD_FACTOR", c.ColdFactor, c.ColdFactor >= 1 && c.ColdFactor <= 1000, "1 to 1000"},
		{"SPILLWAY_COLD_READY", c.ColdReady, c.ColdReady == readyAtOnce || c.ColdReady == readyAfter, "at-once or after"},
	}
}

// maxStartDelay bounds the knob: a replica that takes longer is killed by any startup probe.
const maxStartDelay = 10 * time.Minute

// declareKnobs declares what every replica lets be changed while it runs.
func (r *replica) declareKnobs() {
	slowdown := r.app.knobs.Float("capacity.slowdown", 1, 0.1, 1000,
		"service times are this many times as long, for requests that are admitted from now on")
	slowdown.OnChange(func(factor float64) {
		if err := r.app.station.SetSlowdown(factor); err != nil { // the knob's bounds are narrower
			r.app.log.Error("knob capacity.slowdown", "error", err)
		}
	})
	r.refuseLate = r.app.knobs.Bool("deadline.refuse", true,
		"calls that cannot end in time are refused; when false they take a slot and their work is wasted")
	r.refuseLate.OnChange(r.app.station.SetRefuse)
	r.startDelay = r.app.knobs.Duration("start.delay", 0, 0, maxStartDelay,
		"a replica that starts from now on takes so much longer, on top of SPILLWAY_START_DELAY")
	r.readiness = r.app.knobs.Choice("health.readiness", shallow, []string{shallow, deep},
		"shallow: ready while it serves; deep: not ready while a store or a service that it depends on cannot be reached")
}

// hold keeps the replica starting until its modelled start is over, which began at begin. It tells whether the replica
// may go on: false when ctx ended first.
func (r *replica) hold(ctx context.Context, begin time.Time) bool {
	left := r.cfg.Start.Delay + r.startDelay.Get() - time.Since(begin)
	if left <= 0 {
		return ctx.Err() == nil
	}
	r.app.log.Info("modelled start", "left", left.String())
	r.occupy(left)
	return sleep(ctx, left)
}

// warm begins the time in which the replica is slow and, where it is ready only afterwards, waits for its end. It tells
// whether the replica may go on: false when ctx ended first.
func (r *replica) warm(ctx context.Context) bool {
	r.app.station.Started()
	r.occupy(r.cfg.Start.ColdFor)
	if r.cfg.Start.ColdReady == readyAtOnce || r.cfg.Start.ColdFor == 0 {
		return ctx.Err() == nil
	}
	r.app.log.Info("warming itself up", "for", r.cfg.Start.ColdFor.String())
	return sleep(ctx, r.cfg.Start.ColdFor)
}

// occupy has the start keep its share of the slots busy for d, or until the drain begins.
func (r *replica) occupy(d time.Duration) {
	r.background.Go(r.app.station.Occupy(r.app.ctx, r.cfg.Start.CPU, d))
}

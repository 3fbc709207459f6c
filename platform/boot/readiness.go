package boot

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// How readiness is told. Deep is what many health checks do: it is here to show what comes of it, for all replicas that
// share a store lose it at the same moment.
const (
	shallow = "shallow"
	deep    = "deep"
)

// readinessEvery is how often a deep readiness looks, readinessTimeout how long it waits for an answer.
const (
	readinessEvery   = 200 * time.Millisecond
	readinessTimeout = 250 * time.Millisecond
)

// downstream is a service that the replica calls.
type downstream struct {
	name string
	conn *grpc.ClientConn
}

// away tells whether no replica of it can be reached. A connection that was lost would rest until the next call: it is
// begun anew here, and the next look tells what came of it.
func (d downstream) away() error {
	switch state := d.conn.GetState(); state {
	case connectivity.Idle:
		d.conn.Connect()
	case connectivity.TransientFailure:
		return fmt.Errorf("%s: no replica can be reached", d.name)
	}
	return nil
}

// examine doubts the replica's readiness for as long as it is told deep and something is away, until ctx ends.
func (r *replica) examine(ctx context.Context) {
	changed := make(chan struct{}, 1)
	r.readiness.OnChange(func(string) {
		select {
		case changed <- struct{}{}:
		default: // it will look anyway
		}
	})
	tick := time.NewTicker(readinessEvery)
	defer tick.Stop()
	doubted := false
	for {
		var look <-chan time.Time // shallow: never
		var away error
		if r.readiness.Get() == deep {
			look, away = tick.C, r.away(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if (away != nil) != doubted {
			doubted = !doubted
			r.health.Doubt(doubted)
			r.app.log.Warn("readiness depends on others", "ready", !doubted, "away", away)
		}
		select {
		case <-look:
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// away is the first thing that the replica depends on and that does not answer; nil when all do.
func (r *replica) away(ctx context.Context) error {
	for _, c := range r.app.callees {
		if err := c.away(); err != nil {
			return err
		}
	}
	for _, d := range r.app.dependencies {
		bounded, cancel := context.WithTimeout(ctx, readinessTimeout)
		err := d.connect(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

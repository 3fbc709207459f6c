package main

import (
	"context"
	"fmt"
	"time"

	"spillway.dev/platform/programme"
)

// reaper gives back the seats of expired holds in shows that nobody asks about; all others are reaped with each call. All
// replicas do it: a reap is atomic, and one that finds nothing costs Redis two commands.
type reaper struct {
	store *store
	shows programme.Programme
	every time.Duration
}

// run reaps until ctx ends. It returns an error when Redis was away, for boot to log and run it again.
func (r reaper) run(ctx context.Context) error {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		for _, show := range r.shows.Shows {
			if err := r.clear(ctx, show); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("reap show %s: %w", show.ID, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// clear reaps a show batch by batch until nothing is overdue.
func (r reaper) clear(ctx context.Context, show programme.Show) error {
	for {
		n, err := r.store.reap(ctx, show)
		if err != nil || n < reapBatch {
			return err
		}
	}
}

package experiment

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"spillway.dev/lab/measure"
	"spillway.dev/lab/scenario"
)

// step is something that a scenario does to the mesh at a time.
type step struct {
	at   time.Duration // scenario time
	text string
	do   func(context.Context, Mesh) error
}

// timeline is what happens in a run, in order of time.
type timeline struct {
	steps   []step
	faults  []measure.Window
	actions []measure.Action // by hand; From is filled in when they are done
}

// plan lays out the faults and the scaling by hand of a scenario.
func plan(s *scenario.Scenario, timelapse float64) *timeline {
	t := &timeline{}
	faster := func(d time.Duration) time.Duration { return time.Duration(float64(d) / timelapse) }
	for _, f := range s.Faults {
		window := measure.Window{From: f.At.Seconds(), To: (f.At + f.For).Seconds(), Text: f.Fault.String()}
		if f.For == 0 && f.Fault.Kill == nil {
			window.To = s.Duration.Seconds()
		}
		t.faults = append(t.faults, window)
		t.steps = append(t.steps, step{f.At, f.Fault.String(), func(ctx context.Context, mesh Mesh) error {
			return mesh.BeginFault(ctx, f.Fault.Faster(timelapse), faster(f.For))
		}})
	}
	for i, c := range s.Scale {
		t.actions = append(t.actions, measure.Action{T: c.At.Seconds(), Service: c.Service, To: c.Replicas, Reason: "by the scenario"})
		t.steps = append(t.steps, step{c.At, fmt.Sprintf("scale %s to %d", c.Service, c.Replicas), func(ctx context.Context, mesh Mesh) error {
			previous, err := mesh.SetReplicas(ctx, c.Service, c.Replicas)
			t.actions[i].From = previous
			return err
		}})
	}
	slices.SortStableFunc(t.steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return t
}

const (
	// usualScrape is what the rule files are written for, leastScrape what a machine
	// bears in real time.
	usualScrape, leastScrape = 10 * time.Second, time.Second
	// scrapesOfAFault is how many scrapes of each replica a fault has to last for, so
	// that what is counted under it is not mostly what came before and after.
	scrapesOfAFault = 4
)

// scrapes is how far apart scrapes may be for the shortest of the faults; 0: as
// far as ever.
func scrapes(faults []scenario.TimedFault) time.Duration {
	apart := usualScrape
	for _, f := range faults {
		if f.For > 0 {
			apart = min(apart, f.For/scrapesOfAFault)
		}
	}
	if apart == usualScrape {
		return 0
	}
	return max(apart, leastScrape)
}

// run does every step at its time, counted from begin, until all are done or ctx
// ends, and tells of it. A step that fails ends the run: what came after would
// answer another question.
func (t *timeline) run(ctx context.Context, mesh Mesh, begin time.Time, timelapse float64, told func(text string)) error {
	for _, s := range t.steps {
		timer := time.NewTimer(time.Until(begin.Add(time.Duration(float64(s.at) / timelapse))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		if err := s.do(ctx, mesh); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s at %s: %w", s.text, s.at, err)
		}
		told(fmt.Sprintf("%s at %s", s.text, s.at))
	}
	return nil
}

package experiment

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/load"
	"spillway.dev/lab/measure"
	"spillway.dev/lab/report"
	"spillway.dev/lab/rig"
	"spillway.dev/lab/trace"
)

// read makes the recording of the run and what follows from it.
func (t *trial) read(ctx context.Context, mesh *rig.Rig, line *timeline, record *load.Record, traces *trace.Store) error {
	s, lapse := t.options.Scenario, t.options.Timelapse
	r := &measure.Recording{
		Variant: t.variant.Name, Repeat: t.repeat, Seed: record.Seed, Timelapse: lapse,
		Warmup: s.Warmup.Seconds(), Duration: s.Duration.Seconds(),
		Mix: make(map[string]float64), Faults: line.faults, CutShort: record.CutShort, SessionsLost: &record.SessionsLost,
	}
	for kind, j := range record.Plan.Journeys {
		r.Mix[kind] = j.Share
	}
	for at := time.Duration(0); at <= s.Duration; at += max(time.Second, s.Duration/1000) {
		r.Rate = append(r.Rate, measure.Point{T: at.Seconds(), V: t.variant.Load.Shape.RateAt(at)})
	}
	if err := offered(r, record); err != nil {
		return err
	}
	rescales, _, _ := mesh.Autoscaler.Rescales().After(0)
	for _, a := range rescales {
		if at := a.At.Sub(record.Begin).Seconds() * lapse; at >= 0 && at <= r.Duration {
			r.Actions = append(r.Actions, measure.Action{T: at, Service: a.Target, From: a.From, To: a.To, Reason: a.Reason})
		}
	}
	end := record.ElapsedS * lapse
	for _, a := range line.actions {
		if a.T <= end {
			r.Actions = append(r.Actions, a)
		}
	}
	events, _, _ := mesh.Autoscaler.Events().After(0)
	r.Warnings = warnings(events, record.Begin, lapse, end)
	slices.SortStableFunc(r.Actions, func(a, b measure.Action) int { return cmp.Compare(a.T, b.T) })
	read := reader{store: mesh.Metrics, begin: record.Begin, length: time.Duration(record.ElapsedS * float64(time.Second)), timelapse: lapse, cut: t.whoWasCut()}
	if err := read.into(ctx, r, t.options.Scaled, s.Visits); err != nil {
		return fmt.Errorf("read the series of the run: %w", err)
	}
	t.recording, t.measures = r, measure.Measures(r)
	t.traces = slowest(traces, record, lapse)
	return nil
}

// warnings merges what the autoscaler complained of while load was offered.
func warnings(events []autoscaler.Event, begin time.Time, timelapse, end float64) []measure.Warning {
	var all []measure.Warning
	for _, e := range events {
		at := e.At.Sub(begin).Seconds() * timelapse
		if e.Type != "Warning" || at < 0 || at > end {
			continue
		}
		i := slices.IndexFunc(all, func(w measure.Warning) bool { return w.Service == e.Name && w.Reason == e.Reason })
		if i < 0 {
			i = len(all)
			all = append(all, measure.Warning{Service: e.Name, Reason: e.Reason, First: at})
		}
		all[i].Count, all[i].Last, all[i].Message = all[i].Count+1, at, e.Message
	}
	return all
}

// offered takes over what the generator counted.
func offered(r *measure.Recording, record *load.Record) error {
	by := func(from map[string]load.Counts) map[string]measure.Counts {
		to := make(map[string]measure.Counts, len(from))
		for name, c := range from {
			to[name] = measure.Counts(c)
		}
		return to
	}
	lost := int64(0)
	for _, s := range record.Seconds {
		begin := float64(s.Second) * r.Timelapse
		if begin >= r.Duration {
			continue
		}
		r.Load = append(r.Load, measure.Load{
			T: begin, Dur: min(r.Timelapse, r.Duration-begin), Counts: measure.Counts(s.Counts),
			ByPriority: by(s.ByPriority), ByJourney: by(s.ByJourney),
			P50: s.Latency.P50, P99: s.Latency.P99, P999: s.Latency.P999,
		})
		lost += s.Unanswered
	}
	r.Lost = &lost
	real := func(scenarioSeconds float64) time.Duration {
		return time.Duration(scenarioSeconds / r.Timelapse * float64(time.Second))
	}
	whole, err := record.Between(real(r.Warmup), real(r.Duration))
	if err != nil {
		return err
	}
	r.Whole = measure.Whole{Answered: whole.Count, P50: whole.P50, P99: whole.P99, P999: whole.P999}
	lag, err := record.LagBetween(real(r.Warmup), real(r.Duration))
	if err != nil {
		return err
	}
	r.LagP99 = lag.P99
	return nil
}

// slowest are the slowest traces of the load, for the report.
func slowest(traces *trace.Store, record *load.Record, timelapse float64) []report.Trace {
	var all []report.Trace
	for _, summary := range traces.List(true, keptTraces) {
		if len(all) == shownTraces {
			break
		}
		tree := trace.Build(traces.Get(summary.GetTraceId()))
		at := tree.Start.Sub(record.Begin).Seconds() * timelapse
		if at < 0 || len(tree.Roots) != 1 {
			continue // of the start, or not whole
		}
		all = append(all, report.TraceOf(tree, at, tree.Roots[0].Name))
	}
	return all
}

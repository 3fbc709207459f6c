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
	"spillway.dev/lab/trace"
)

// read makes the recording of the run and what follows from it.
func (t *trial) read(ctx context.Context, mesh Mesh, line *timeline, record *load.Record) error {
	s, lapse := t.options.Scenario, t.options.Timelapse
	seen, err := mesh.Observed(ctx)
	if err != nil {
		return fmt.Errorf("read what was observed of the run: %w", err)
	}
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
	for _, a := range seen.Rescales {
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
	r.Warnings = warnings(seen.Events, record.Begin, lapse, end)
	slices.SortStableFunc(r.Actions, func(a, b measure.Action) int { return cmp.Compare(a.T, b.T) })
	read := reader{
		store: seen.Metrics, since: seen.Since, begin: record.Begin, length: time.Duration(record.ElapsedS * float64(time.Second)),
		timelapse: lapse, services: seen.Services, cut: seen.Cut,
	}
	if err := read.into(ctx, r, t.options.Scaled, s.Visits); err != nil {
		return fmt.Errorf("read the series of the run: %w", err)
	}
	if len(r.HostCPU) == 0 {
		r.HostCPU = busy(seen.HostCPU, record.Begin, lapse)
	}
	t.recording, t.measures = r, measure.Measures(r)
	t.traces = slowest(seen.Traces, record, lapse)
	return nil
}

// busy is how busy the machines were from begin on, in scenario time.
func busy(shares []Busy, begin time.Time, timelapse float64) measure.Series {
	var out measure.Series
	for _, s := range shares {
		p := measure.Point{T: max(s.At.Sub(begin).Seconds()*timelapse, 0), V: s.Share}
		if n := len(out); n > 0 && out[n-1].T == p.T { // both from before
			out = out[:n-1]
		}
		out = append(out, p)
	}
	return out
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

// slowest are the slowest traces of the load, for the report; none where nobody
// keeps them here.
func slowest(traces *trace.Store, record *load.Record, timelapse float64) []report.Trace {
	var all []report.Trace
	if traces == nil {
		return nil
	}
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

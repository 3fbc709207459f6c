package report

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"maps"
	"slices"
	"strconv"

	"spillway.dev/lab/measure"
)

// table collects the rows of one CSV file.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// bytes is the file by RFC 4180: a header line, lines ended by CR LF.
func (t *table) bytes() []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	_ = w.WriteAll(t.rows) // a bytes.Buffer takes everything
	return b.Bytes()
}

func exact(v float64) string {
	if !finite(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func whole(n int64) string { return strconv.FormatInt(n, 10) }

// tables are the CSV files by name: one for each family of series. Times are
// scenario seconds, rates are per real second. What was not measured at a time
// is an empty cell.
func tables(r *Result) map[string][]byte {
	out := map[string]*table{}
	header := func(name string, columns ...string) *table {
		t := &table{}
		t.add(columns...)
		out[name] = t
		return t
	}
	measures := header("measures.csv", "variant", "measure", "unit", "median", "low", "high")
	load := header("load.csv", "variant", "t_s", "duration_s", "offered_per_s", "goodput_per_s", "late_per_s", "refused_per_s",
		"shed_per_s", "errors_per_s", "p50_ms", "p99_ms", "p999_ms")
	classes := header("load_by_class.csv", "variant", "t_s", "duration_s", "kind", "class", "offered_count", "goodput_count",
		"late_count", "refused_count", "shed_count")
	reasons := header("errors.csv", "variant", "t_s", "duration_s", "reason", "errors_count")
	services := header("services.csv", "variant", "service", "t_s", "offered_per_s", "answered_per_s", "refused_per_s", "capacity_per_s",
		"pressure_ratio", "utilization_ratio", "queue_calls", "calls_per_s", "attempts_per_s", "ready_replicas", "desired_replicas")
	edges := header("edges.csv", "variant", "caller", "callee", "t_s", "calls_per_s")
	actions := header("actions.csv", "variant", "t_s", "service", "from_replicas", "to_replicas", "reason")
	faults := header("faults.csv", "variant", "from_s", "to_s", "fault")
	host := header("host.csv", "variant", "t_s", "host_cpu_ratio", "host_stolen_ratio", "nodes_count")

	for _, v := range r.Variants {
		for _, key := range slices.Sorted(maps.Keys(v.Measures)) {
			k, _ := measure.Lookup(key)
			s := v.Measures[key]
			measures.add(v.Name, key, cmp.Or(k.Unit, "ratio"), exact(s.Median), exact(s.Low), exact(s.High))
		}
		rec := v.Recording
		if rec == nil {
			continue
		}
		for _, l := range rec.Load {
			rate := func(n int64) string { return exact(perSecond(rec, l, n)) }
			load.add(v.Name, exact(l.T), exact(l.Dur), rate(l.Offered), rate(l.Good), rate(l.Late), rate(l.Refused), rate(l.Shed),
				rate(failed(l.Counts)), quantile(l.P50), quantile(l.P99), quantile(l.P999))
			for _, kind := range []struct {
				name string
				of   map[string]measure.Counts
			}{{"priority", l.ByPriority}, {"journey", l.ByJourney}} {
				for _, class := range slices.Sorted(maps.Keys(kind.of)) {
					c := kind.of[class]
					classes.add(v.Name, exact(l.T), exact(l.Dur), kind.name, class, whole(c.Offered), whole(c.Good), whole(c.Late),
						whole(c.Refused), whole(c.Shed))
				}
			}
			for _, reason := range slices.Sorted(maps.Keys(l.Errors)) {
				reasons.add(v.Name, exact(l.T), exact(l.Dur), reason, whole(l.Errors[reason]))
			}
		}
		for _, s := range rec.Services {
			joined([]measure.Series{s.Offered, s.Answered, s.Refused, s.Capacity, s.Pressure, s.Utilization, s.Queue, s.Calls,
				s.Attempts, s.Ready, s.Desired}, func(t string, cells []string) {
				services.add(append([]string{v.Name, s.Name, t}, cells...)...)
			})
		}
		for _, e := range rec.Edges {
			for _, p := range e.Calls {
				edges.add(v.Name, e.Caller, e.Callee, exact(p.T), exact(p.V))
			}
		}
		for _, a := range rec.Actions {
			actions.add(v.Name, exact(a.T), a.Service, strconv.Itoa(a.From), strconv.Itoa(a.To), a.Reason)
		}
		for _, f := range rec.Faults {
			faults.add(v.Name, exact(f.From), exact(f.To), f.Text)
		}
		joined([]measure.Series{rec.HostCPU, rec.HostStolen, rec.Nodes}, func(t string, cells []string) {
			host.add(append([]string{v.Name, t}, cells...)...)
		})
	}
	files := make(map[string][]byte, len(out))
	for name, t := range out {
		files[name] = t.bytes()
	}
	return files
}

// joined calls row for every time at which one of the series has a point.
func joined(columns []measure.Series, row func(t string, cells []string)) {
	at := map[float64][]string{}
	for i, series := range columns {
		for _, p := range series {
			if at[p.T] == nil {
				at[p.T] = make([]string, len(columns))
			}
			at[p.T][i] = exact(p.V)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(at)) {
		row(exact(t), at[t])
	}
}

// quantile is empty for the 0 that stands for no answer.
func quantile(v float64) string {
	if v == 0 {
		return ""
	}
	return exact(v)
}

func failed(c measure.Counts) int64 {
	var n int64
	for _, errors := range c.Errors {
		n += errors
	}
	return n
}

// perSecond turns a count of a bucket into a rate per real second.
func perSecond(r *measure.Recording, l measure.Load, n int64) float64 {
	real := l.Dur / lapse(r.Timelapse)
	if real <= 0 {
		return 0
	}
	return float64(n) / real
}

// lapse is a time-lapse as a factor: 0 counts as 1.
func lapse(n float64) float64 {
	if n <= 0 {
		return 1
	}
	return n
}

package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"spillway.dev/lab/measure"
)

// figure is one or more charts with one heading and one table of data.
type figure struct {
	ID, Title string
	Note      string
	Panels    []panel
	Data      dataTable
}

type panel struct {
	ID, Heading string
	SVG         template.HTML
}

// dataTable is a figure in numbers. The first cell of a row is its head.
type dataTable struct {
	// Summary is what the closed table is called.
	Summary string
	Caption string
	Columns []string
	Rows    [][]string
}

// drawn are the variants that have a recording, with what all figures share.
type drawn struct {
	variants []Variant
	span     float64
	warm     float64
	bands    []band
}

func newDrawn(all []Variant) drawn {
	d := drawn{variants: all, span: 1}
	for _, v := range all {
		if v.Recording != nil {
			d.span = max(d.span, v.Recording.Duration)
			d.warm = max(d.warm, v.Recording.Warmup)
		}
	}
	d.bands = d.faults()
	return d
}

// any tells whether there is something to draw at all.
func (d drawn) any() bool {
	return slices.ContainsFunc(d.variants, func(v Variant) bool { return v.Recording != nil })
}

// faults are the faults of all variants; what all of them had is one band.
func (d drawn) faults() []band {
	had := map[measure.Window]int{}
	recordings := 0
	for _, v := range d.variants {
		if v.Recording == nil {
			continue
		}
		recordings++
		for _, f := range v.Recording.Faults {
			had[rounded(f)]++
		}
	}
	var out []band
	done := map[measure.Window]bool{}
	for i, v := range d.variants {
		if v.Recording == nil {
			continue
		}
		for _, f := range v.Recording.Faults {
			f = rounded(f)
			b := band{variant: i, from: f.From, to: f.To, text: f.Text}
			if had[f] == recordings {
				if done[f] {
					continue
				}
				done[f] = true
				b.variant = -1
			}
			out = append(out, b)
		}
	}
	return out
}

// rounded is a fault by the whole second: the same fault of two variants begins
// some milliseconds apart.
func rounded(f measure.Window) measure.Window {
	f.From, f.To = math.Round(f.From), math.Round(f.To)
	return f
}

// quiet is the bands without their names.
func quiet(bands []band) []band {
	out := slices.Clone(bands)
	for i := range out {
		out[i].text = ""
	}
	return out
}

// lines collects one line for each variant that has the series.
func (d drawn) lines(step bool, of func(r *measure.Recording) measure.Series) []line {
	var out []line
	for i, v := range d.variants {
		if v.Recording == nil {
			continue
		}
		if s := of(v.Recording); len(s) > 0 {
			out = append(out, line{variant: i, label: letter(i), series: s, step: step})
		}
	}
	return out
}

// overall is the figures of the whole mesh.
func (d drawn) overall() []figure {
	offered := d.lines(false, func(r *measure.Recording) measure.Series {
		return loadSeries(r, func(l measure.Load) float64 { return perSecond(r, l, l.Offered) })
	})
	goodput := d.lines(false, func(r *measure.Recording) measure.Series {
		return loadSeries(r, func(l measure.Load) float64 { return perSecond(r, l, l.Good) })
	})
	p99 := d.lines(false, func(r *measure.Recording) measure.Series {
		return loadSeries(r, func(l measure.Load) float64 {
			if l.P99 == 0 {
				return math.NaN()
			}
			return l.P99
		})
	})
	lines := slices.Clone(goodput)
	if len(offered) > 0 {
		background := offered[0]
		background.variant, background.label, background.area = -1, "offered", true
		lines = append([]line{background}, lines...)
	}
	var out []figure
	add := func(id, title, what, note string, lines []line, tall float64, bands []band) {
		if len(lines) == 0 {
			return
		}
		p := plot{id: id, title: title + " over time", what: what, span: d.span, warm: d.warm, tall: tall, times: true,
			lines: lines, bands: bands, desc: d.describe(lines, what)}
		if lines[0].step {
			p.top = evenTop(p)
		}
		out = append(out, figure{ID: id, Title: title, Note: note,
			Panels: []panel{{ID: id, SVG: p.svg()}}, Data: d.table(title, lines, what)})
	}
	add("load", "Offered load and goodput", "requests/s", "Grey: what was offered. Lines: what was answered rightly and in time.", lines, 190, d.bands)
	add("p99", "Latency, 99th percentile", "ms", "Counted from the time at which a request was meant to be sent. A gap: nothing was answered.", p99, 150, quiet(d.bands))
	add("nodes", "Nodes", "nodes", "", d.lines(true, func(r *measure.Recording) measure.Series { return r.Nodes }), 72, quiet(d.bands))
	return out
}

// evenTop leaves room above whole numbers, and its half is whole.
func evenTop(p plot) float64 {
	high := p.highest()
	for _, k := range p.marks {
		high = max(high, k.v)
	}
	return max(2*math.Ceil(high*1.05/2), 2)
}

func loadSeries(r *measure.Recording, of func(measure.Load) float64) measure.Series {
	var out measure.Series
	for _, l := range r.Load {
		out = append(out, measure.Point{T: l.T, V: of(l)})
	}
	return out
}

// clipAt is the highest pressure that is drawn in scale: above it, where the
// line at 1 could no longer be told from 0, only the numbers say how high.
const clipAt = 4

// services is one figure for each service: pressure, and below it replicas.
func (d drawn) services(order []string) []figure {
	find := func(r *measure.Recording, name string) measure.Service {
		for _, s := range r.Services {
			if s.Name == name {
				return s
			}
		}
		return measure.Service{}
	}
	var most float64
	for _, name := range order {
		for _, l := range d.lines(false, func(r *measure.Recording) measure.Series { return find(r, name).Pressure }) {
			v, _ := peak(l.series)
			if finite(v) {
				most = max(most, v)
			}
		}
	}
	top := min(max(ceiling(most), 1.25), clipAt)
	var out []figure
	for i, name := range order {
		f := figure{ID: "service-" + strconv.Itoa(i), Title: name}
		pressure := d.lines(false, func(r *measure.Recording) measure.Series { return find(r, name).Pressure })
		if len(pressure) > 0 {
			id := f.ID + "-pressure"
			p := plot{id: id, title: "Pressure on " + name + " over time", span: d.span, warm: d.warm, tall: 96, top: top,
				lines: pressure, bands: quiet(d.bands), rule: 1, ruleText: "1: all it can do", desc: d.describe(pressure, "pressure")}
			f.Panels = append(f.Panels, panel{ID: id, Heading: "Pressure", SVG: p.svg()})
			if v, _ := peak(longest(pressure)); v > top {
				f.Note = "Off the scale: the peak is " + number(v) + "."
			}
		}
		ready := d.lines(true, func(r *measure.Recording) measure.Series { return find(r, name).Ready })
		if len(ready) > 0 {
			id := f.ID + "-replicas"
			p := plot{id: id, title: "Ready replicas of " + name + " over time", span: d.span, warm: d.warm, tall: 72, times: true,
				lines: ready, bands: quiet(d.bands), marks: d.marks(name), desc: d.describe(ready, "replicas") + d.actionsText(name)}
			p.top = evenTop(p)
			f.Panels = append(f.Panels, panel{ID: id, Heading: "Ready replicas", SVG: p.svg()})
		}
		if len(f.Panels) == 0 {
			continue
		}
		f.Data = d.table(name, renamed(pressure, "pressure"), "", renamed(ready, "replicas")...)
		out = append(out, f)
	}
	return out
}

// longest is the series with the highest peak.
func longest(lines []line) measure.Series {
	return slices.MaxFunc(lines, func(a, b line) int {
		x, _ := peak(a.series)
		y, _ := peak(b.series)
		return cmp.Compare(x, y)
	}).series
}

func renamed(lines []line, what string) []line {
	out := slices.Clone(lines)
	for i := range out {
		out[i].label += " " + what
	}
	return out
}

// marks are the scaling actions on a service, at the number of replicas that was
// asked for.
func (d drawn) marks(service string) []mark {
	var out []mark
	for i, v := range d.variants {
		if v.Recording == nil {
			continue
		}
		for _, a := range v.Recording.Actions {
			if a.Service == service {
				out = append(out, mark{variant: i, t: a.T, v: float64(a.To), up: a.To > a.From})
			}
		}
	}
	return out
}

func (d drawn) actionsText(service string) string {
	var parts []string
	for i, v := range d.variants {
		if v.Recording == nil {
			continue
		}
		if up, down := ups(v.Recording, service); up+down > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d up, %d down", letter(i), up, down))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " Scaling actions: " + strings.Join(parts, "; ") + "."
}

func ups(r *measure.Recording, service string) (up, down int) {
	for _, a := range r.Actions {
		switch {
		case a.Service != service:
		case a.To > a.From:
			up++
		default:
			down++
		}
	}
	return up, down
}

// describe says what the lines do, for those who do not see them.
func (d drawn) describe(lines []line, what string) string {
	var parts []string
	for _, l := range lines {
		v, at := peak(l.series)
		if !finite(v) {
			continue
		}
		name := l.label
		if l.variant >= 0 {
			name = letter(l.variant) + ", " + d.variants[l.variant].Name
		}
		parts = append(parts, fmt.Sprintf("%s: highest %s at %s, at the end %s", name, number(v), clock(at), number(last(l.series))))
	}
	if len(parts) == 0 {
		return "Nothing was measured."
	}
	return capital(what) + " over " + clock(d.span) + ". " + strings.Join(parts, "; ") + "."
}

// table gives the lines in numbers, at no more than 31 times.
func (d drawn) table(title string, lines []line, what string, more ...line) dataTable {
	lines = slices.Concat(lines, more)
	step := tickStep(d.span)
	for _, divisor := range []float64{6, 5, 4, 3, 2} {
		if d.span/(step/divisor) <= 30 {
			step /= divisor
			break
		}
	}
	caption := title
	if what != "" {
		caption += ", " + what
	}
	t := dataTable{Summary: title + ": the data", Columns: []string{"Time"},
		Caption: fmt.Sprintf("%s, every %s. All points are in the CSV files beside this page.", caption, clock(step))}
	for _, l := range lines {
		t.Columns = append(t.Columns, l.label)
	}
	for at := 0.0; at <= d.span*(1+1e-9); at += step {
		row := []string{clock(at)}
		for _, l := range lines {
			row = append(row, number(valueAt(l.series, at)))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

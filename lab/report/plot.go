package report

import (
	"cmp"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"spillway.dev/lab/measure"
)

const (
	padTop  = 16.0 // px above the drawing, for the highest label
	padAxis = 20.0 // px below it, for the times
	// maxPoints of one line: more than the pixels of a wide screen say nothing.
	maxPoints = 360
)

// plot is a chart of values over scenario time. It is as wide as it is let.
type plot struct {
	id, title, desc string
	// what is the quantity and its unit as the y axis says it.
	what string
	span float64 // scenario seconds from left to right
	tall float64 // px of the drawing
	top  float64 // upper end of the y axis; 0: from the data
	// times writes the x axis below.
	times bool
	lines []line
	bands []band
	marks []mark
	// rule is a value with a line of its own; 0 for none.
	rule     float64
	ruleText string
	// warm is where measuring begins.
	warm float64
}

// line is one series of one variant; variant -1 belongs to none.
type line struct {
	variant int
	label   string
	series  measure.Series
	// step holds a value until the next; area fills below.
	step, area bool
}

// band is a time with a name, of one variant or of all (-1).
type band struct {
	variant  int
	from, to float64
	text     string // shown; empty where another chart shows it
}

// mark is an event on a line.
type mark struct {
	variant int
	t, v    float64
	up      bool
}

// highest is the greatest value of all lines.
func (p plot) highest() float64 {
	top := p.rule
	for _, l := range p.lines {
		for _, pt := range l.series {
			if finite(pt.V) {
				top = max(top, pt.V)
			}
		}
	}
	return top
}

// ceiling is the next round number, whose half is round enough.
func ceiling(v float64) float64 {
	if v <= 0 || !finite(v) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10} {
		if v <= n*power*(1+1e-9) {
			return n * power
		}
	}
	return 10 * power
}

// tickStep is the distance of times below a chart: at most six fit on a phone.
func tickStep(span float64) float64 {
	for _, s := range []float64{1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200, 14400} {
		if span/s <= 5.5 {
			return s
		}
	}
	return math.Ceil(span/5/86400) * 86400
}

func (p plot) svg() template.HTML {
	top := p.top
	if top == 0 {
		top = ceiling(1.02 * p.highest())
	}
	height := padTop + p.tall
	if p.times {
		height += padAxis
	}
	x := func(t float64) string { return percent(min(max(t/p.span, 0), 1)) }
	y := func(v float64) float64 { return padTop + p.tall*(1-v/top) }
	px := func(v float64) string { return fixed(v, 1) }

	var m markup
	m.open("svg", "class", "plot", "role", "img", "aria-labelledby", p.id+"-t "+p.id+"-d",
		"height", px(height), "data-id", p.id, "data-span", fixed(p.span, 3), "data-top", fixed(top, 6))
	m.say("title", p.title, "id", p.id+"-t")
	m.say("desc", p.desc, "id", p.id+"-d")

	if p.warm > 0 {
		m.leaf("rect", "class", "warm", "x", "0", "y", px(padTop), "width", x(p.warm), "height", px(p.tall))
	}
	for _, b := range p.bands {
		class := "band" + shownWith(b.variant)
		width := percent(max(min(b.to, p.span)-b.from, 0) / p.span)
		if b.to <= b.from {
			width = "2"
		}
		m.leaf("rect", "class", class, "x", x(b.from), "y", px(padTop), "width", width, "height", px(p.tall))
	}
	for i := range 3 {
		v := top * float64(i) / 2
		m.leaf("line", "class", "grid", "x1", "0", "x2", "100%", "y1", px(y(v)), "y2", px(y(v)))
	}

	m.open("svg", "x", "0", "y", px(padTop), "width", "100%", "height", px(p.tall),
		"viewBox", "0 0 "+fixed(p.span, 3)+" 100", "preserveAspectRatio", "none")
	for _, l := range p.lines {
		series := thinned(l.series)
		class := "line" + coloured(l.variant)
		if l.area {
			m.leaf("path", "class", "area"+coloured(l.variant), "d", areaPath(series, top))
			class += " edge"
		}
		if l.step {
			class += " step"
		}
		m.leaf("path", "class", class, "data-name", l.label, "d", linePath(series, top, l.step, p.span))
	}
	m.close("svg")

	if p.rule > 0 {
		m.leaf("line", "class", "rule", "x1", "0", "x2", "100%", "y1", px(y(p.rule)), "y2", px(y(p.rule)))
		m.say("text", p.ruleText, "class", "tick strong halo", "x", "100%", "y", px(y(p.rule)-4), "text-anchor", "end")
	}
	for _, k := range p.marks {
		shape := "#down"
		if k.up {
			shape = "#up"
		}
		m.leaf("use", "class", "mark"+coloured(k.variant), "href", shape, "x", x(k.t), "y", px(min(max(y(k.v), padTop), padTop+p.tall)))
	}
	for i := 1; i <= 2; i++ {
		v := top * float64(i) / 2
		if p.rule > 0 && math.Abs(y(v)-y(p.rule)) < 12 {
			continue
		}
		text := short(v)
		if i == 2 && p.what != "" {
			text += " " + p.what
		}
		m.say("text", text, "class", "tick halo", "x", "0", "y", px(y(v)-4))
	}
	for row, b := range p.bands {
		if b.text == "" {
			continue
		}
		anchor, at := "start", b.from
		if b.from > p.span/2 {
			anchor, at = "end", max(b.to, b.from)
		}
		m.say("text", b.text, "class", "tick fault halo"+shownWith(b.variant), "x", x(at), "y", px(padTop+14+float64(row%4)*14), "text-anchor", anchor)
	}
	p.endLetters(&m, top, y, px)
	if p.times {
		timeAxis(&m, padTop+p.tall, p.span, tickStep(p.span))
	}
	m.close("svg")
	return m.html()
}

// endLetters writes each variant's letter where its line ends, apart from each
// other.
func (p plot) endLetters(m *markup, top float64, y func(float64) float64, px func(float64) string) {
	type end struct {
		variant int
		at      float64
	}
	var ends []end
	for _, l := range p.lines {
		if v := last(l.series); l.variant >= 0 && finite(v) {
			ends = append(ends, end{l.variant, y(min(v, top))})
		}
	}
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.at, b.at) })
	const apart = 11.0
	for i := range ends {
		if i > 0 {
			ends[i].at = max(ends[i].at, ends[i-1].at+apart)
		}
	}
	for i := len(ends) - 1; i >= 0; i-- {
		limit := padTop + p.tall
		if i < len(ends)-1 {
			limit = ends[i+1].at - apart
		}
		ends[i].at = min(ends[i].at, limit)
	}
	for _, e := range ends {
		m.say("text", letter(e.variant), "class", "end"+coloured(e.variant), "x", "100%", "dx", "4", "y", px(e.at+4))
	}
}

// timeAxis writes a time every step seconds at the height y.
func timeAxis(m *markup, y, span, step float64) {
	for t := 0.0; t <= span*(1+1e-9); t += step {
		anchor := "middle"
		switch {
		case t == 0:
			anchor = "start"
		case t > span*0.96:
			anchor = "end"
		}
		at := percent(t / span)
		m.leaf("line", "class", "grid", "x1", at, "x2", at, "y1", fixed(y, 1), "y2", fixed(y+4, 1))
		m.say("text", clock(t), "class", "tick", "x", at, "y", fixed(y+16, 1), "text-anchor", anchor)
	}
}

// coloured is the classes of a variant's own things, shownWith those of what
// only goes away with it.
func coloured(variant int) string {
	if variant < 0 {
		return " all"
	}
	return " c" + strconv.Itoa(variant%colours) + shownWith(variant)
}

func shownWith(variant int) string {
	if variant < 0 {
		return ""
	}
	return " s" + strconv.Itoa(variant)
}

// linePath draws a series into a box that is span wide and 100 high. A value of
// NaN breaks the line.
func linePath(s measure.Series, top float64, step bool, span float64) string {
	var b strings.Builder
	pen := false
	last := ""
	for _, p := range s {
		if !finite(p.V) {
			pen = false
			continue
		}
		x, y := fixed(p.T, 1), fixed(100*(1-p.V/top), 2)
		switch {
		case !pen:
			b.WriteString("M" + x + "," + y)
		case step:
			b.WriteString("L" + x + "," + last + "L" + x + "," + y)
		default:
			b.WriteString("L" + x + "," + y)
		}
		pen, last = true, y
	}
	if step && pen && s[len(s)-1].T < span {
		b.WriteString("L" + fixed(span, 1) + "," + last)
	}
	return b.String()
}

func areaPath(s measure.Series, top float64) string {
	if len(s) == 0 {
		return ""
	}
	return linePath(s, top, false, 0) + "L" + fixed(s[len(s)-1].T, 1) + ",100L" + fixed(s[0].T, 1) + ",100Z"
}

// thinned keeps the lowest and the highest point of each of maxPoints/2 equal
// parts, so that no peak is lost however long a run was.
func thinned(s measure.Series) measure.Series {
	if len(s) <= maxPoints {
		return s
	}
	var out measure.Series
	parts := maxPoints / 2
	for i := range parts {
		part := s[i*len(s)/parts : (i+1)*len(s)/parts]
		low, high := 0, 0
		for j, p := range part {
			if p.V < part[low].V {
				low = j
			}
			if p.V > part[high].V {
				high = j
			}
		}
		out = append(out, part[min(low, high)])
		if low != high {
			out = append(out, part[max(low, high)])
		}
	}
	return out
}

// valueAt is what a series holds at t; NaN before its first point.
func valueAt(s measure.Series, t float64) float64 {
	i, found := slices.BinarySearchFunc(s, t, func(p measure.Point, t float64) int { return cmp.Compare(p.T, t) })
	if !found {
		i--
	}
	if i < 0 {
		return math.NaN()
	}
	return s[i].V
}

// last is the last value that was measured; NaN when there is none.
func last(s measure.Series) float64 {
	for _, p := range slices.Backward(s) {
		if finite(p.V) {
			return p.V
		}
	}
	return math.NaN()
}

// peak is the greatest value of s and when it was first reached.
func peak(s measure.Series) (v, t float64) {
	v, t = math.NaN(), math.NaN()
	for _, p := range s {
		if finite(p.V) && !(p.V <= v) {
			v, t = p.V, p.T
		}
	}
	return v, t
}

// above is for how long s was over limit, each value holding until the next.
func above(s measure.Series, limit, until float64) float64 {
	var sum float64
	for i, p := range s {
		next := until
		if i+1 < len(s) {
			next = s[i+1].T
		}
		if p.V > limit && next > p.T {
			sum += next - p.T
		}
	}
	return sum
}

package report

import (
	"cmp"
	"html/template"
	"slices"
	"strings"

	"spillway.dev/lab/measure"
)

// missedKey has its complement plotted: what was not answered in time.
const missedKey = "goodput_ratio"

// bargain is one variant in the plane of cost and missed deadlines; less is
// better for both.
type bargain struct {
	variant      int
	cost, missed measure.Summary
	// best tells that no other variant is as good in both and better in one.
	best bool
}

// bargains are the variants that have both measures, cheapest first.
func bargains(variants []Variant, costKey string) []bargain {
	var out []bargain
	for i, v := range variants {
		cost, a := v.Measures[costKey]
		good, b := v.Measures[missedKey]
		if a && b {
			out = append(out, bargain{variant: i, cost: cost,
				missed: measure.Summary{Median: 1 - good.Median, Low: 1 - good.High, High: 1 - good.Low}})
		}
	}
	for i := range out {
		a := out[i]
		out[i].best = !slices.ContainsFunc(out, func(b bargain) bool {
			noWorse := b.cost.Median <= a.cost.Median && b.missed.Median <= a.missed.Median
			return noWorse && (b.cost.Median < a.cost.Median || b.missed.Median < a.missed.Median)
		})
	}
	slices.SortStableFunc(out, func(a, b bargain) int { return cmp.Compare(a.cost.Median, b.cost.Median) })
	return out
}

// tradeoff is the Pareto plot; ok is false where fewer than two variants have
// both measures.
func tradeoff(variants []Variant, costKey string) (f figure, ok bool) {
	if costKey == "" {
		return f, false
	}
	list := bargains(variants, costKey)
	if len(list) < 2 {
		return f, false
	}
	cost := meaningOf(costKey)
	f = figure{ID: "tradeoff", Title: "What it costs to be in time",
		Note: "Left and down is better. The line joins the variants that no other one beats in both."}
	f.Panels = []panel{{ID: f.ID, SVG: tradeoffSVG(variants, list, cost)}}
	f.Data = dataTable{Summary: f.Title + ": the data", Caption: "Cost and missed deadlines", Columns: []string{"Variant", cost.label, "Not answered in time", "Beaten by none"}}
	for _, b := range list {
		best := "no"
		if b.best {
			best = "yes"
		}
		f.Data.Rows = append(f.Data.Rows, []string{letter(b.variant) + " " + variants[b.variant].Name, number(b.cost.Median),
			fixed(100*b.missed.Median, 1) + " %", best})
	}
	return f, true
}

func tradeoffSVG(variants []Variant, list []bargain, cost meaning) template.HTML {
	const tall = 260.0
	var right, top float64
	for _, b := range list {
		right, top = max(right, b.cost.High, b.cost.Median), max(top, b.missed.High, b.missed.Median)
	}
	right, top = ceiling(right), ceiling(100*top)/100
	x := func(v float64) string { return percent(min(max(v/right, 0), 1)) }
	y := func(v float64) string { return fixed(padTop+tall*(1-min(max(v/top, 0), 1)), 1) }

	var best []string
	for _, b := range list {
		if b.best {
			best = append(best, letter(b.variant)+", "+variants[b.variant].Name)
		}
	}
	var m markup
	m.open("svg", "class", "tradeoff", "role", "img", "aria-labelledby", "tradeoff-t tradeoff-d", "height", fixed(padTop+tall+padAxis+16, 0))
	m.say("title", cost.label+" against missed deadlines", "id", "tradeoff-t")
	m.say("desc", "Beaten by no other variant in both: "+strings.Join(best, "; ")+".", "id", "tradeoff-d")
	for i := range 3 {
		v := float64(i) / 2
		m.leaf("line", "class", "grid", "x1", "0", "x2", "100%", "y1", y(top*v), "y2", y(top*v))
	}
	for i := range 5 {
		v := float64(i) / 4
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case 4:
			anchor = "end"
		}
		m.leaf("line", "class", "grid", "x1", percent(v), "x2", percent(v), "y1", fixed(padTop+tall, 1), "y2", fixed(padTop+tall+4, 1))
		m.say("text", short(right*v), "class", "tick", "x", percent(v), "y", fixed(padTop+tall+16, 1), "text-anchor", anchor)
	}
	m.say("text", cost.label, "class", "tick strong", "x", "100%", "y", fixed(padTop+tall+32, 1), "text-anchor", "end")
	for i := 1; i <= 2; i++ {
		text := fixed(100*top*float64(i)/2, 2) + " %"
		if i == 2 {
			text += " not answered in time"
		}
		m.say("text", text, "class", "tick halo", "x", "0", "y", fixed(padTop+tall*(1-float64(i)/2)-4, 1))
	}
	// Steps, not slopes: between two variants there is none to be had.
	var front []bargain
	for _, b := range list {
		if b.best {
			front = append(front, b)
		}
	}
	for i := 1; i < len(front); i++ {
		a, b := front[i-1], front[i]
		m.leaf("line", "class", "front", "x1", x(a.cost.Median), "x2", x(b.cost.Median), "y1", y(a.missed.Median), "y2", y(a.missed.Median))
		m.leaf("line", "class", "front", "x1", x(b.cost.Median), "x2", x(b.cost.Median), "y1", y(a.missed.Median), "y2", y(b.missed.Median))
	}
	for _, b := range list {
		class := coloured(b.variant)
		cx, cy := x(b.cost.Median), y(b.missed.Median)
		m.leaf("line", "class", "whisker"+class, "x1", x(b.cost.Low), "x2", x(b.cost.High), "y1", cy, "y2", cy)
		m.leaf("line", "class", "whisker"+class, "x1", cx, "x2", cx, "y1", y(b.missed.Low), "y2", y(b.missed.High))
		m.leaf("circle", "class", "dot"+class, "cx", cx, "cy", cy, "r", "9")
		m.say("text", letter(b.variant), "class", "in"+shownWith(b.variant), "x", cx, "y", cy, "dy", "4", "text-anchor", "middle")
	}
	for _, n := range placed(variants, list, func(b bargain) (float64, float64) {
		return min(b.cost.Median/right, 1), padTop + tall*(1-min(b.missed.Median/top, 1))
	}) {
		m.say("text", n.text, "class", "label tick strong halo"+shownWith(n.variant), "x", percent(n.x), "y", fixed(n.y, 1),
			"dx", fixed(n.dx, 0), "dy", fixed(n.dy, 0), "text-anchor", n.anchor)
	}
	m.close("svg")
	return m.html()
}

// nameplate is a variant's name beside its dot.
type nameplate struct {
	variant      int
	text, anchor string
	x, y, dx, dy float64 // x is a share of the width
}

// placed puts names where they lie on no dot and no other name on a page of the
// usual width; a name for which there is no room is left out, its letter stays.
func placed(variants []Variant, list []bargain, at func(bargain) (share, y float64)) []nameplate {
	const page, letterWide, high = 1000.0, 7.5, 14.0
	type box struct{ left, top, right, bottom float64 }
	var taken []box
	for _, b := range list {
		x, y := at(b)
		taken = append(taken, box{x*page - 10, y - 10, x*page + 10, y + 10})
	}
	var out []nameplate
	for _, b := range list {
		x, y := at(b)
		text := variants[b.variant].Name
		wide := letterWide * float64(len([]rune(text)))
		for _, try := range []nameplate{{dx: -6, dy: 24, anchor: "end"}, {dx: 14, dy: 4, anchor: "start"}, {dx: 6, dy: 24, anchor: "start"},
			{dx: 10, dy: -12, anchor: "start"}, {dx: -10, dy: -12, anchor: "end"}} {
			left := x*page + try.dx
			if try.anchor == "end" {
				left -= wide
			}
			mine := box{left, y + try.dy - high, left + wide, y + try.dy + 2}
			if mine.left < 0 || mine.right > page || slices.ContainsFunc(taken, func(o box) bool {
				return mine.left < o.right && o.left < mine.right && mine.top < o.bottom && o.top < mine.bottom
			}) {
				continue
			}
			taken = append(taken, mine)
			try.variant, try.text, try.x, try.y = b.variant, text, x, y
			out = append(out, try)
			break
		}
	}
	return out
}

package report

import (
	"fmt"
	"html/template"
	"strings"
)

// waterfall is a trace as a table: one row for each span, with a bar where it
// was in the time of the whole.
type waterfall struct {
	ID, Class string
	Title     string
	Spans     []bar
	// Cut is how many spans are not shown.
	Cut int
}

type bar struct {
	// Indent is at most 9, the deepest that the style sheet knows.
	Indent        int
	Service, Name string
	Start, Takes  string
	Failed        bool
	Reason        string
	SVG           template.HTML
}

// slowest is how many traces of a variant are drawn, shown how many spans of
// each.
const (
	slowest = 3
	shown   = 60
)

func waterfalls(variants []Variant) []waterfall {
	var out []waterfall
	for i, v := range variants {
		for j, t := range v.Traces {
			if j == slowest {
				break
			}
			w := waterfall{
				ID: fmt.Sprintf("trace-%d-%d", i, j), Class: shownWith(i),
				Title: fmt.Sprintf("%s %s: %s ms", letter(i), v.Name, number(t.Millis)),
				Cut:   max(len(t.Spans)-shown, 0),
			}
			if t.Journey != "" {
				w.Title += ", " + shortMethod(t.Journey)
			}
			w.Title += ", began at " + clock(t.At)
			for _, s := range t.Spans[:len(t.Spans)-w.Cut] {
				w.Spans = append(w.Spans, bar{
					Indent: min(max(s.Depth, 0), 9), Service: s.Service, Name: shortMethod(s.Name),
					Start: number(s.Start), Takes: number(s.Millis), Failed: s.Failed, Reason: s.Reason,
					SVG: spanSVG(s, t.Millis, i),
				})
			}
			out = append(out, w)
		}
	}
	return out
}

// shortMethod is an RPC's name without its proto package.
func shortMethod(name string) string {
	if pkg, method, ok := strings.Cut(name, "/"); ok && !strings.Contains(pkg, " ") {
		return pkg[strings.LastIndexByte(pkg, '.')+1:] + "/" + method
	}
	return name
}

func spanSVG(s Span, total float64, variant int) template.HTML {
	if total <= 0 {
		return ""
	}
	from := min(max(s.Start/total, 0), 1)
	wide := min(max(s.Millis/total, 0.004), 1-from+0.004)
	class := "span" + coloured(variant)
	if s.Failed {
		class = "span failed"
	}
	var m markup
	m.open("svg", "class", "fall", "aria-hidden", "true", "height", "10")
	m.leaf("line", "class", "grid", "x1", "0", "x2", "100%", "y1", "5", "y2", "5")
	m.leaf("rect", "class", class, "x", percent(from), "y", "1", "height", "8", "width", percent(wide))
	m.close("svg")
	return m.html()
}

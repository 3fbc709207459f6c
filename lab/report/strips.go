package report

import (
	"html/template"
	"strconv"

	"spillway.dev/lab/measure"
)

// strips shows where the pressure was: one row for each service, time to the
// right, one table for each variant.
type strips struct {
	Class, Letter, Name string
	Rows                []strip
	Axis                template.HTML
}

type strip struct {
	Service     string
	SVG         template.HTML
	Peak, Above string
	PeakClass   string
}

func pressureStrips(id string, variant int, v Variant, span float64, order []string) strips {
	out := strips{Class: shownWith(variant), Letter: letter(variant), Name: v.Name}
	byName := map[string]measure.Service{}
	for _, s := range v.Recording.Services {
		byName[s.Name] = s
	}
	for i, name := range order {
		s, there := byName[name]
		if !there {
			continue
		}
		v, _ := peak(s.Pressure)
		out.Rows = append(out.Rows, strip{
			Service: name, SVG: stripSVG(id+"-"+strconv.Itoa(i), name, s, span),
			Peak: number(v), PeakClass: pressureClass(v), Above: stopwatch(above(s.Pressure, 1, span)),
		})
	}
	var m markup
	m.open("svg", "class", "axis", "aria-hidden", "true", "height", "20")
	for _, f := range v.Recording.Faults {
		m.leaf("rect", "class", "band", "x", percent(f.From/span), "y", "0", "width", percent(max(min(f.To, span)-f.From, 0.004*span)/span), "height", "5")
	}
	timeAxis(&m, 0, span, span)
	m.close("svg")
	out.Axis = m.html()
	return out
}

func pressureClass(v float64) string {
	if !finite(v) {
		return ""
	}
	return "p" + strconv.Itoa(stepOf(v))
}

// stripSVG is a row of coloured cells; neighbours of one class are one cell.
// A cell has the highest pressure of its time.
func stripSVG(id, name string, s measure.Service, span float64) template.HTML {
	const cells = 120
	v, at := peak(s.Pressure)
	says := "No pressure was measured."
	if finite(v) {
		says = "Highest at " + clock(at) + " with " + number(v) + "; above 1 for " + clock(above(s.Pressure, 1, span)) + " in all."
	}
	var m markup
	m.open("svg", "class", "strip", "role", "img", "aria-labelledby", id+"-t "+id+"-d", "height", "18", "data-span", fixed(span, 3))
	m.say("title", "Pressure on "+name+" over time", "id", id+"-t")
	m.say("desc", says, "id", id+"-d")
	begin, class := 0, ""
	flush := func(until int) {
		if class != "" && until > begin {
			m.leaf("rect", "class", class, "x", percent(float64(begin)/cells), "y", "0", "height", "18",
				"width", percent(float64(until-begin)/cells))
		}
	}
	for i := range cells {
		from, to := span*float64(i)/cells, span*float64(i+1)/cells
		next := pressureClass(highestIn(s.Pressure, from, to))
		if next != class {
			flush(i)
			begin, class = i, next
		}
	}
	flush(cells)
	m.close("svg")
	return m.html()
}

// highestIn is the highest value that s had in [from, to).
func highestIn(s measure.Series, from, to float64) float64 {
	high := valueAt(s, from)
	for _, p := range s {
		if p.T >= from && p.T < to && finite(p.V) && !(p.V <= high) {
			high = p.V
		}
	}
	return high
}

// legendStep is one colour of the scale.
type legendStep struct{ Class, Text string }

func scale() []legendStep {
	var out []legendStep
	for i := range steps {
		out = append(out, legendStep{"p" + strconv.Itoa(i), stepText(i)})
	}
	return out
}

package report

import (
	"html/template"
	"math"
	"strings"

	"spillway.dev/lab/measure"
)

// comparison is the table of measures, one column for each variant (or run).
type comparison struct {
	Caption string
	Note    string
	Columns []column
	Groups  []comparedGroup
	// Repeated says that there are intervals.
	Repeated bool
}

type column struct {
	Letter, Name string
	Class        string
}

type comparedGroup struct {
	Name string
	Rows []comparedRow
}

type comparedRow struct {
	Label, Unit string
	Cells       []cell
	// Dots shows all cells on one scale that begins at 0.
	Dots template.HTML
}

// cell is one measure of one variant; texts are empty where there is nothing to
// say.
type cell struct {
	Value, Interval string
	Change, Between string
	// Verdict is better or worse where the interval of the change leaves 0 out
	// and the measure has a direction.
	Verdict string
	// Class shades peak pressures.
	Class string
}

// compare lays the measures that want takes side by side. Differences are to the
// first column.
func compare(columns []column, variants []map[string]measure.Summary, want func(key string) bool) comparison {
	out := comparison{Columns: columns}
	repeated := make([]bool, len(variants))
	for i, v := range variants {
		for _, s := range v {
			repeated[i] = repeated[i] || s.Low != s.High
		}
		out.Repeated = out.Repeated || repeated[i]
	}
	for _, g := range measured(variants, want) {
		part := comparedGroup{Name: g.name}
		for _, key := range g.keys {
			m := meaningOf(key)
			row := comparedRow{Label: m.label, Unit: m.unit}
			first, haveFirst := variants[0][key]
			for i, v := range variants {
				s, have := v[key]
				if !have {
					row.Cells = append(row.Cells, cell{Value: none})
					continue
				}
				c := cell{Value: m.value(s.Median)}
				if strings.HasPrefix(key, "peak_pressure.") {
					c.Class = pressureClass(s.Median)
				}
				if s.Low != s.High {
					c.Interval = m.like(s.Low, s.Median) + " to " + m.like(s.High, s.Median)
				}
				if i > 0 && haveFirst {
					c.change(m, first, s, repeated[0] && repeated[i])
				}
				row.Cells = append(row.Cells, c)
			}
			row.Dots = dots(key, variants)
			part.Rows = append(part.Rows, row)
		}
		out.Groups = append(out.Groups, part)
	}
	return out
}

// change fills in the difference of s to first. Its interval runs from the
// lowest to the highest difference that the two intervals allow, which is wider
// than 95 % needs: what it calls a difference is one. Where one of the two ran
// only once there is no interval and no verdict.
func (c *cell) change(m meaning, first, s measure.Summary, repeated bool) {
	ref := max(math.Abs(s.Median), math.Abs(first.Median))
	c.Change = m.difference(s.Median-first.Median, ref)
	if m.ratio {
		c.Change += " points"
	}
	low, high := s.Low-first.High, s.High-first.Low
	if !repeated || low == 0 && high == 0 {
		return
	}
	if low != high {
		c.Between = m.difference(low, ref) + " to " + m.difference(high, ref)
	}
	switch {
	case m.better == neither || low <= 0 && high >= 0:
	case low > 0 == (m.better == higher):
		c.Verdict = "better"
	default:
		c.Verdict = "worse"
	}
}

// dots draws one row of the table: a dot for each median, a bar for its
// interval. The numbers stand in the same row, so it is hidden from readers.
func dots(key string, variants []map[string]measure.Summary) template.HTML {
	var top float64
	for _, v := range variants {
		top = max(top, v[key].High, v[key].Median)
	}
	if top <= 0 {
		return ""
	}
	const row = 9.0
	var m markup
	m.open("svg", "class", "dots", "aria-hidden", "true", "height", fixed(row*float64(len(variants))+2, 0))
	m.leaf("line", "class", "grid", "x1", "0", "x2", "0", "y1", "0", "y2", "100%")
	for i, v := range variants {
		s, have := v[key]
		if !have {
			continue
		}
		y := fixed(row*(float64(i)+0.5)+1, 1)
		m.leaf("line", "class", "grid thin"+shownWith(i), "x1", "0", "x2", percent(max(s.Median, 0)/top), "y1", y, "y2", y)
		if s.Low != s.High {
			m.leaf("line", "class", "whisker"+coloured(i), "x1", percent(max(s.Low, 0)/top), "x2", percent(max(s.High, 0)/top), "y1", y, "y2", y)
		}
		m.leaf("circle", "class", "dot"+coloured(i), "cx", percent(max(s.Median, 0)/top), "cy", y, "r", "3.5")
	}
	m.close("svg")
	return m.html()
}

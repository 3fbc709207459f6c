package report

import (
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// markup writes elements. Every attribute and every text goes through it, so
// nothing reaches a page unescaped.
type markup struct{ out strings.Builder }

// open writes a start tag; attributes come as name, value, name, value.
func (m *markup) open(name string, attributes ...string) {
	m.out.WriteByte('<')
	m.out.WriteString(name)
	for i := 0; i+1 < len(attributes); i += 2 {
		m.out.WriteByte(' ')
		m.out.WriteString(attributes[i])
		m.out.WriteString(`="`)
		m.out.WriteString(html.EscapeString(attributes[i+1]))
		m.out.WriteByte('"')
	}
	m.out.WriteByte('>')
}

func (m *markup) close(name string) {
	m.out.WriteString("</")
	m.out.WriteString(name)
	m.out.WriteString(">\n")
}

func (m *markup) text(s string) { m.out.WriteString(html.EscapeString(s)) }

// leaf is an element without content.
func (m *markup) leaf(name string, attributes ...string) {
	m.open(name, attributes...)
	m.close(name)
}

// say is an element with a text.
func (m *markup) say(name, text string, attributes ...string) {
	m.open(name, attributes...)
	m.text(text)
	m.close(name)
}

func (m *markup) html() template.HTML { return template.HTML(m.out.String()) }

// fixed is v with at most n decimals and no trailing zeros.
func fixed(v float64, n int) string {
	s := strconv.FormatFloat(v, 'f', n, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		return "0"
	}
	return s
}

func percent(share float64) string { return fixed(100*share, 2) + "%" }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

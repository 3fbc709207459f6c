package report

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"spillway.dev/lab/measure"
)

var (
	//go:embed page.tmpl
	pageText string
	//go:embed style.css
	styleText string
	//go:embed script.js
	scriptText string
)

// head is what every page begins with.
type head struct {
	Title  string
	Policy string
	Style  template.CSS
}

// newHead allows the page exactly its own style and script, by their hashes, and
// no request at all.
func newHead(title, style, script string) head {
	policy := "default-src 'none'; style-src " + hash(style) + "; base-uri 'none'; form-action 'none'"
	if script != "" {
		policy += "; script-src " + hash(script)
	}
	return head{Title: title, Policy: policy, Style: template.CSS(style)}
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

type fact struct{ Name, Value string }

type part struct{ ID, Name string }

// shownVariant is a variant as the page names it.
type shownVariant struct {
	Index, Colour      int
	Letter, Name, Says string
	Big                string
}

type shownGraph struct {
	Class  string
	Figure figure
}

type shownTrace struct {
	waterfall
	Open bool
}

type trust struct {
	Says  []string
	Table *dataTable
}

// page is what the template "page" shows.
type page struct {
	Head                                head
	Scenario, Question, Answer          string
	Command, Commit, Document, TimeNote string
	Invalid                             []string
	Facts, Environment                  []fact
	Parts                               []part
	Expectations                        []Expectation
	Held                                string
	Variants                            []shownVariant
	Span                                int
	Measures                            comparison
	Detailed                            *comparison
	Tradeoff                            *figure
	Strips                              []strips
	Scale                               []legendStep
	Overall, Services                   []figure
	Graphs                              []shownGraph
	Actions                             *dataTable
	ActionLists                         []dataTable
	Traces                              []shownTrace
	Trust                               trust
	Script                              template.JS
}

func render(r *Result) ([]byte, error) { return execute("page", newPage(r)) }

func newPage(r *Result) *page {
	style := styleText + toggles(len(r.Variants))
	p := &page{
		Head:     newHead(r.Scenario+": "+r.Question, style, scriptText),
		Script:   template.JS(scriptText),
		Scenario: r.Scenario, Question: r.Question, Answer: cmp.Or(sentence(r.Answer), Answer(r)),
		Command: r.Command, Commit: r.Commit, Document: r.Document,
		Expectations: r.Expectations,
		Scale:        scale(),
	}
	if !r.Valid {
		p.Invalid = r.Invalid
	}
	for _, name := range slices.Sorted(maps.Keys(r.Environment)) {
		p.Environment = append(p.Environment, fact{name, r.Environment[name]})
	}
	held := 0
	for _, e := range r.Expectations {
		if e.OK {
			held++
		}
	}
	p.Held = fmt.Sprintf("%d of %s held", held, count(len(r.Expectations), "expectation"))

	var columns []column
	var summaries []map[string]measure.Summary
	for i, v := range r.Variants {
		s := shownVariant{Index: i, Colour: i % colours, Letter: letter(i), Name: v.Name, Says: sentence(v.Says)}
		if good, measured := v.Measures[missedKey]; measured {
			s.Big = meaningOf(missedKey).value(good.Median)
		}
		p.Variants = append(p.Variants, s)
		columns = append(columns, column{Letter: letter(i), Name: v.Name, Class: strings.TrimSpace(shownWith(i))})
		summaries = append(summaries, v.Measures)
	}
	p.Measures = compare(columns, summaries, func(key string) bool { return !detailed(key) })
	p.Measures.Caption = "Measures of every variant"
	p.Measures.Note = note(r, p.Measures.Repeated)
	if d := compare(columns, summaries, detailed); len(d.Groups) > 0 {
		d.Caption = "Measures of single services"
		p.Detailed = &d
	}
	if f, ok := tradeoff(r.Variants, r.Cost); ok {
		p.Tradeoff = &f
	}
	if d := newDrawn(r.Variants); d.any() {
		p.draw(d)
	}
	for i, w := range waterfalls(r.Variants) {
		p.Traces = append(p.Traces, shownTrace{w, i == 0})
	}
	p.Trust = trustIn(r)
	p.facts(r)
	p.parts()
	return p
}

// draw adds everything that comes from recordings.
func (p *page) draw(d drawn) {
	p.Span = int(math.Ceil(d.span))
	p.Overall = d.overall()
	p.TimeNote = "Time is scenario time from the begin of the load."
	if d.warm > 0 {
		p.TimeNote += " The first " + clock(d.warm) + ", shaded grey, warm up and are not measured."
	}
	if len(d.bands) > 0 {
		p.TimeNote += " Shaded brown: a fault was in force."
	}
	recorded := slices.DeleteFunc(slices.Clone(d.variants), func(v Variant) bool { return v.Recording == nil })
	graph := calls(recorded)
	order := graph.names()
	p.Services = d.services(order)
	for i, v := range d.variants {
		if v.Recording == nil {
			continue
		}
		if len(v.Recording.Services) > 0 {
			p.Strips = append(p.Strips, pressureStrips("strip-"+strconv.Itoa(i), i, v, d.span, order))
		}
		if len(v.Recording.Edges) > 0 {
			id := "graph-" + strconv.Itoa(i)
			p.Graphs = append(p.Graphs, shownGraph{Class: strings.TrimSpace(shownWith(i)), Figure: figure{
				ID: id, Title: letter(i) + " " + v.Name, Panels: []panel{{ID: id, SVG: graphSVG(id, graph, i, v)}}, Data: edgeTable(v)}})
		}
	}
	p.Actions, p.ActionLists = actionTables(d, order)
}

func edgeTable(v Variant) dataTable {
	t := dataTable{Summary: "Calls between services: the data", Caption: "Calls between services, " + v.Name, Columns: []string{"Caller → called", "Highest, calls/s", "At", "Mean, calls/s"}}
	for _, e := range v.Recording.Edges {
		high, at := peak(e.Calls)
		var sum float64
		for _, p := range e.Calls {
			sum += p.V
		}
		t.Rows = append(t.Rows, []string{e.Caller + " → " + e.Callee, number(high), clock(at), number(sum / max(float64(len(e.Calls)), 1))})
	}
	return t
}

// warnings lists what autoscalers complained of.
func warnings(variant string, all []measure.Warning) dataTable {
	list := dataTable{Summary: variant + ": warnings of the autoscalers", Caption: "What autoscalers could not do with " + variant,
		Columns: []string{"First", "Last", "Times", "Service", "Reason", "Message"}}
	for _, w := range all {
		list.Rows = append(list.Rows, []string{clock(w.First), clock(w.Last), strconv.Itoa(w.Count), w.Service, w.Reason, w.Message})
	}
	return list
}

// actionTables counts the scaling actions by service and lists them.
func actionTables(d drawn, order []string) (*dataTable, []dataTable) {
	counts := &dataTable{Caption: "How often each service was scaled up (▲) and down (▼)", Columns: []string{"Service"}}
	var lists []dataTable
	var any bool
	for i, v := range d.variants {
		counts.Columns = append(counts.Columns, letter(i)+" "+v.Name)
		if v.Recording == nil || len(v.Recording.Actions)+len(v.Recording.Warnings) == 0 {
			continue
		}
		any = true
		if len(v.Recording.Warnings) > 0 {
			lists = append(lists, warnings(letter(i)+" "+v.Name, v.Recording.Warnings))
		}
		if len(v.Recording.Actions) == 0 {
			continue
		}
		list := dataTable{Summary: letter(i) + " " + v.Name + ": every scaling action", Caption: "Scaling actions with " + v.Name, Columns: []string{"Time", "Service", "From", "To", "Reason"}}
		for _, a := range v.Recording.Actions {
			list.Rows = append(list.Rows, []string{clock(a.T), a.Service, strconv.Itoa(a.From), strconv.Itoa(a.To), a.Reason})
		}
		lists = append(lists, list)
	}
	if !any {
		return nil, nil
	}
	for _, service := range order {
		row := []string{service}
		var seen bool
		for _, v := range d.variants {
			cell := none
			if v.Recording != nil {
				if up, down := ups(v.Recording, service); up+down > 0 {
					cell, seen = fmt.Sprintf("%d ▲ %d ▼", up, down), true
				}
			}
			row = append(row, cell)
		}
		if seen {
			counts.Rows = append(counts.Rows, row)
		}
	}
	return counts, lists
}

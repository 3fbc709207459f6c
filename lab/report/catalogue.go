package report

import (
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"

	"spillway.dev/lab/measure"
)

// entry is one scenario in the catalogue.
type entry struct {
	Dir, Scenario, Question, Answer string
	Valid                           bool
	Invalid                         []string
	Held, Expected                  int
	Failed                          []string
	Facts                           []fact
	Spark                           template.HTML
	// Broken says why a directory could not be read: the run was cut off.
	Broken string
}

// Catalogue writes dir/index.html over the runs in the directories directly
// below dir, in the order of their names. A run that cannot be read is listed
// as such; a directory without anything that a run writes is passed by.
func Catalogue(dir string) error {
	found, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var entries []entry
	for _, f := range found {
		if !f.IsDir() {
			continue
		}
		below := filepath.Join(dir, f.Name())
		if _, err := os.Stat(filepath.Join(below, summaryFile)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		r, err := Read(below)
		if err != nil {
			entries = append(entries, entry{Dir: f.Name(), Scenario: f.Name(), Broken: err.Error()})
			continue
		}
		entries = append(entries, newEntry(f.Name(), len(entries), r))
	}
	if len(entries) == 0 {
		return fmt.Errorf("%s has no runs below it: write some with spillway run --out %s", dir, filepath.Join(dir, "NAME"))
	}
	page, err := execute("catalogue", catalogue(entries))
	if err != nil {
		return fmt.Errorf("catalogue of %s: %w", dir, err)
	}
	return os.WriteFile(filepath.Join(dir, pageFile), page, 0o644)
}

type cataloguePage struct {
	Head                head
	Entries             []entry
	Total, Valid, Whole int
}

func catalogue(entries []entry) cataloguePage {
	p := cataloguePage{Head: newHead("Spillway: scenarios", styleText, ""), Entries: entries, Total: len(entries)}
	for _, e := range entries {
		if e.Broken != "" || !e.Valid {
			continue
		}
		p.Valid++
		if e.Held == e.Expected {
			p.Whole++
		}
	}
	return p
}

func newEntry(dir string, index int, r *Result) entry {
	p := newPage(r)
	e := entry{Dir: dir, Scenario: r.Scenario, Question: r.Question, Answer: p.Answer, Valid: r.Valid, Invalid: p.Invalid,
		Expected: len(r.Expectations), Facts: p.Facts, Spark: spark(fmt.Sprintf("spark-%d", index), r)}
	for _, x := range r.Expectations {
		if x.OK {
			e.Held++
		} else {
			e.Failed = append(e.Failed, x.Text)
		}
	}
	return e
}

// spark is the load and the goodput of every variant in the size of a word.
func spark(id string, r *Result) template.HTML {
	d := newDrawn(r.Variants)
	offered := func(r *measure.Recording) measure.Series {
		return loadSeries(r, func(l measure.Load) float64 { return perSecond(r, l, l.Offered) })
	}
	goodput := func(r *measure.Recording) measure.Series {
		return loadSeries(r, func(l measure.Load) float64 { return perSecond(r, l, l.Good) })
	}
	background, lines := d.lines(false, offered), d.lines(false, goodput)
	if len(background) == 0 {
		return ""
	}
	top := ceiling(plot{lines: background}.highest())
	var m markup
	m.open("svg", "class", "spark", "role", "img", "aria-labelledby", id+"-t "+id+"-d", "height", "56",
		"viewBox", "0 0 "+fixed(d.span, 3)+" 100", "preserveAspectRatio", "none")
	m.say("title", "Offered load and goodput of "+r.Scenario, "id", id+"-t")
	m.say("desc", d.describe(lines, "requests/s"), "id", id+"-d")
	m.leaf("path", "class", "area all", "d", areaPath(thinned(background[0].series), top))
	for _, l := range lines {
		m.leaf("path", "class", "line c"+fmt.Sprint(l.variant%colours), "d", linePath(thinned(l.series), top, false, d.span))
	}
	m.close("svg")
	return m.html()
}

package report

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"spillway.dev/lab/measure"
)

// Comparison lays runs of one scenario side by side, variant by variant.
// Differences are to the first run.
type Comparison struct {
	scenario string
	runs     []run
}

type run struct {
	name string
	summary
}

// Compare reads the report.json of each directory. The runs have to be of the
// same scenario; commit, seed, time-lapse and variants may differ.
func Compare(dirs ...string) (*Comparison, error) {
	if len(dirs) < 2 {
		return nil, errors.New("compare needs the directories of two runs or more")
	}
	c := &Comparison{}
	for _, dir := range dirs {
		s, err := readSummary(dir)
		if err != nil {
			return nil, err
		}
		if c.scenario == "" {
			c.scenario = s.Scenario
		}
		if s.Scenario != c.scenario {
			return nil, fmt.Errorf("%s is a run of %s, %s one of %s: only runs of one scenario can be compared", dirs[0], c.scenario, dir, s.Scenario)
		}
		c.runs = append(c.runs, run{filepath.Base(filepath.Clean(dir)), *s})
	}
	return c, nil
}

// compared is one variant in all runs that have it.
type compared struct {
	Name  string
	Table comparison
}

// variants are in the order of the runs, each where it first appears.
func (c *Comparison) variants() []compared {
	var names []string
	for _, r := range c.runs {
		for _, v := range r.Variants {
			if !slices.Contains(names, v.Name) {
				names = append(names, v.Name)
			}
		}
	}
	var out []compared
	for _, name := range names {
		var columns []column
		var measures []map[string]measure.Summary
		for i, r := range c.runs {
			columns = append(columns, column{Letter: letter(i), Name: r.name, Class: strings.TrimSpace(shownWith(i))})
			var found map[string]measure.Summary
			for _, v := range r.Variants {
				if v.Name == name {
					found = v.Measures
				}
			}
			measures = append(measures, found)
		}
		t := compare(columns, measures, func(string) bool { return true })
		t.Caption = "Measures of " + name + " in every run"
		t.Note = "Below a value: its interval, where the run was repeated, and its difference to " + letter(0)
		out = append(out, compared{name, t})
	}
	return out
}

// Print writes the comparison for a terminal.
func (c *Comparison) Print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "scenario %s\n\nRUN\tSEED\tCOMMIT\tTIME-LAPSE\tVALID\n", c.scenario)
	for i, r := range c.runs {
		valid := "yes"
		if !r.Valid {
			valid = "INVALID"
		}
		fmt.Fprintf(out, "%s %s\t%d\t%s\t%s\t%s\n", letter(i), r.name, r.Seed, r.Commit, timelapse(r.Timelapse), valid)
	}
	for _, v := range c.variants() {
		fmt.Fprintf(out, "\n%s", strings.ToUpper(v.Name))
		for _, column := range v.Table.Columns {
			fmt.Fprintf(out, "\t%s %s", column.Letter, column.Name)
		}
		fmt.Fprintln(out)
		for _, g := range v.Table.Groups {
			for _, row := range g.Rows {
				fmt.Fprint(out, row.Label)
				if row.Unit != "" {
					fmt.Fprint(out, ", "+row.Unit)
				}
				for _, cell := range row.Cells {
					fmt.Fprint(out, "\t"+cell.Value)
					if cell.Change != "" {
						fmt.Fprint(out, "  "+cell.Change)
					}
					if cell.Verdict != "" {
						fmt.Fprint(out, " "+cell.Verdict)
					}
				}
				fmt.Fprintln(out)
			}
		}
	}
	return out.Flush()
}

// Page is the comparison as a page of its own, like a report.
func (c *Comparison) Page() ([]byte, error) {
	type shownRun struct {
		shownVariant
		Seed              uint64
		Commit, Timelapse string
		Valid             bool
	}
	view := struct {
		Head     head
		Scenario string
		Runs     []shownRun
		Variants []compared
		Invalid  []string
	}{Head: newHead("Runs of "+c.scenario, styleText+toggles(len(c.runs)), ""), Scenario: c.scenario, Variants: c.variants()}
	for i, r := range c.runs {
		view.Runs = append(view.Runs, shownRun{shownVariant{Index: i, Colour: i % colours, Letter: letter(i), Name: r.name},
			r.Seed, r.Commit, timelapse(r.Timelapse), r.Valid})
		if !r.Valid {
			view.Invalid = append(view.Invalid, "run "+letter(i)+" "+r.name+" is not valid: its own report says why")
		}
	}
	return execute("comparison", view)
}

func execute(name string, view any) ([]byte, error) {
	t, err := template.New("").Funcs(template.FuncMap{"add": func(a, b int) int { return a + b }}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.ExecuteTemplate(&b, name, view)
	return b.Bytes(), err
}

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"text/tabwriter"
)

// Measure is one figure with the most that it may be.
type Measure struct {
	// Key is the figure's name in bench.json.
	Key string
	// Value is NaN when it could not be measured; Note then says why.
	Value float64
	// Target is the most that Value may be.
	Target float64
	// Note says how the figure came about, in a few words.
	Note string
}

// Met tells whether the target was kept. What could not be measured has not kept it.
func (m Measure) Met() bool { return m.Value <= m.Target } // false for NaN

func (m Measure) verdict() string {
	switch {
	case math.IsNaN(m.Value):
		return "NOT MEASURED"
	case m.Met():
		return "ok"
	}
	return fmt.Sprintf("MISSED by %.0f %%", 100*(m.Value/m.Target-1))
}

// Table prints the figures with their targets and verdicts.
func Table(w io.Writer, measures []Measure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tVALUE\tAT MOST\tVERDICT\tHOW")
	for _, m := range measures {
		value := "–"
		if !math.IsNaN(m.Value) {
			value = fmt.Sprintf("%.3g", m.Value)
		}
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%s\t%s\n", m.Key, value, m.Target, m.verdict(), m.Note)
	}
	return t.Flush()
}

// DecisionTable prints what the decisions take, each beside its library.
func DecisionTable(w io.Writer, decisions []Timed) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DECISION\tNS/OP\tALLOCS/OP\tLIBRARY\tNS/OP\tRATIO\tAT MOST\tVERDICT")
	number := func(v float64, digits int) string {
		if math.IsNaN(v) {
			return "–"
		}
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
	for _, d := range decisions {
		library, bound, verdict := d.Library, "–", "–"
		if library == "" {
			library = "–"
		}
		if d.AtMost > 0 {
			bound = number(d.AtMost, 1)
		}
		switch {
		case math.IsNaN(d.NsPerOp):
			verdict = "NOT MEASURED"
		case !d.Met():
			verdict = "MISSED"
		case d.AtMost > 0:
			verdict = "ok"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, number(d.NsPerOp, 0), number(d.AllocsPerOp, 0),
			library, number(d.LibraryNsPerOp, 0), number(d.Ratio, 2), bound, verdict)
	}
	return t.Flush()
}

// figures is the decision as bench.json has it: null for what was not measured, no library where there is none.
func (t Timed) figures() map[string]any {
	or := func(v float64) any {
		if math.IsNaN(v) {
			return nil
		}
		return v
	}
	f := map[string]any{"ns_per_op": or(t.NsPerOp), "allocs_per_op": or(t.AllocsPerOp)}
	if t.Library != "" {
		f["library"], f["library_ns_per_op"], f["ratio"] = t.Library, or(t.LibraryNsPerOp), or(t.Ratio)
	}
	if t.AtMost > 0 {
		f["at_most"] = t.AtMost
	}
	return f
}

// Write puts the figures into a JSON file: one key for each (null when not measured), beside them the targets, the notes,
// the decisions by name, and the host, without which absolute figures mean nothing.
func Write(path string, measures []Measure, decisions []Timed) error {
	doc := map[string]any{}
	targets, notes := map[string]float64{}, map[string]string{}
	for _, m := range measures {
		doc[m.Key] = nil
		if !math.IsNaN(m.Value) {
			doc[m.Key] = m.Value
		}
		targets[m.Key], notes[m.Key] = m.Target, m.Note
	}
	byName := map[string]any{}
	for _, d := range decisions {
		byName[d.Name] = d.figures()
	}
	doc["targets"], doc["notes"], doc["decisions"], doc["host"] = targets, notes, byName, host()
	out, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(out, '\n'), 0o644)
}

// host describes the machine and the build.
func host() map[string]any {
	h := map[string]any{"os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU(), "go": runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision", "vcs.modified":
				h[s.Key] = s.Value
			}
		}
	}
	return h
}

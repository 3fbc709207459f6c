package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"spillway.dev/lab/experiment"
)

// progress shows how far an experiment is: on a terminal a bar and a live line,
// redrawn in place; elsewhere a line at every change of phase and every tenth
// second. Safe for concurrent use.
type progress struct {
	mu     sync.Mutex
	out    io.Writer
	redraw bool
	width  int
	drawn  bool
	last   string // what was printed last where nothing is redrawn
	ticks  int
}

func newProgress(out io.Writer, redraw bool, width int) *progress {
	return &progress{out: out, redraw: redraw, width: width}
}

// quiet is how many ticks go by between two lines where nothing is redrawn.
const quiet = 10

func (p *progress) show(m experiment.Moment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Note != "" {
		p.erase()
		if m.Variant != "" {
			m.Note = m.Variant + ": " + m.Note
		}
		fmt.Fprintf(p.out, "  %s\n", m.Note)
		return
	}
	head := fmt.Sprintf("%d/%d %s", m.Run, m.Runs, m.Variant)
	if p.redraw {
		p.erase()
		p.line(fmt.Sprintf("%s %s %s", bar(m, 24), head, m.Phase))
		p.line(liveLine(m))
		p.drawn = true
		return
	}
	switch key := head + " " + m.Phase; {
	case key != p.last:
		p.last, p.ticks = key, 0
		fmt.Fprintf(p.out, "%s\n", key)
	case m.Tick != nil:
		if p.ticks++; p.ticks%quiet == 0 {
			fmt.Fprintf(p.out, "  %s\n", liveLine(m))
		}
	}
}

// finish takes away what is drawn.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *progress) erase() {
	if p.drawn {
		fmt.Fprint(p.out, "\x1b[2A\x1b[J")
	}
	p.drawn = false
}

// line prints one line that does not wrap.
func (p *progress) line(text string) {
	runes := []rune(text)
	fmt.Fprintln(p.out, string(runes[:min(len(runes), max(p.width-1, 0))]))
}

// bar is how far all runs are.
func bar(m experiment.Moment, cells int) string {
	part := float64(m.Run - 1)
	switch {
	case m.Phase == "reading" || m.Phase == "stopping":
		part++
	case m.Duration > 0:
		part += float64(m.Elapsed) / float64(m.Duration)
	}
	full := min(int(part/float64(max(m.Runs, 1))*float64(cells)), cells)
	return "[" + strings.Repeat("█", full) + strings.Repeat("·", cells-full) + "]"
}

// liveLine is what goes on now.
func liveLine(m experiment.Moment) string {
	if m.Tick == nil {
		return ""
	}
	var replicas []string
	for _, name := range slices.Sorted(maps.Keys(m.Replicas)) {
		replicas = append(replicas, fmt.Sprintf("%s %d", name, m.Replicas[name]))
	}
	t := m.Tick
	return fmt.Sprintf("%s of %s  offered %d/s  good %d/s  shed %d  errors %d  p99 %.0f ms  lag %.1f ms  |  %s",
		m.Elapsed.Round(time.Second), m.Duration, t.Offered, t.Good, t.Shed, t.Failed(),
		float64(t.LatencyP99.Microseconds())/1000, float64(t.LagP99.Microseconds())/1000, strings.Join(replicas, " "))
}

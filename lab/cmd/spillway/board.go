package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"spillway.dev/lab/engine/local"
)

// board shows the start of a mesh: a line per workload with its state, redrawn
// in place on a terminal and printed at every change elsewhere. Once finished it
// prints events as plain lines. Safe for concurrent use.
type board struct {
	mu       sync.Mutex
	out      io.Writer
	redraw   bool
	width    int
	finished bool
	names    []string // of workloads, in the order in which they came
	states   map[string]string
	drawn    int // lines of the block on the screen
}

func newBoard(out io.Writer, redraw bool, width int) *board {
	return &board{out: out, redraw: redraw, width: width, states: make(map[string]string)}
}

// event shows one event of the engine.
func (b *board) event(e local.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished {
		fmt.Fprintf(b.out, "%s  %s\n", e.At.Format(time.TimeOnly), e)
		return
	}
	switch {
	case e.Kind == local.EventWorkload:
		state := fmt.Sprintf("%d of %d ready", e.Ready, e.Wanted)
		if e.Ready >= e.Wanted {
			state += " ✓"
		}
		b.set(e.Workload, state)
	case e.Kind == local.EventReplica && e.Workload != "":
		// The block has room for one thing per workload: the latest.
		b.set(e.Workload, strings.TrimSpace(b.count(e.Workload)+"   "+e.String()))
	default:
		b.erase()
		fmt.Fprintln(b.out, e)
		b.draw()
	}
}

// count is the part of a workload's state that counts.
func (b *board) count(name string) string {
	count, _, _ := strings.Cut(b.states[name], "   ")
	if !strings.Contains(count, " of ") {
		return ""
	}
	return count
}

func (b *board) set(name, state string) {
	if !slices.Contains(b.names, name) {
		b.names = append(b.names, name)
	}
	if b.states[name] == state {
		return
	}
	b.states[name] = state
	if !b.redraw {
		fmt.Fprintf(b.out, "%-12s%s\n", name, state)
		return
	}
	b.erase()
	b.draw()
}

// finish leaves the block as it is; what comes after goes below it.
func (b *board) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = true
}

// erase takes the block off the screen: up by its lines, then clear to the end.
func (b *board) erase() {
	if b.redraw && b.drawn > 0 {
		fmt.Fprintf(b.out, "\x1b[%dA\x1b[J", b.drawn)
	}
	b.drawn = 0
}

func (b *board) draw() {
	if !b.redraw {
		return
	}
	for _, name := range b.names {
		line := []rune(fmt.Sprintf("%-12s%s", name, printable(b.states[name])))
		fmt.Fprintln(b.out, string(line[:min(len(line), max(b.width-1, 0))])) // a line that wraps would be two
	}
	b.drawn = len(b.names)
}

// Package logs keeps what replicas print: the latest lines in memory, more in a
// file for each replica, and everything new for those who follow.
package logs

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

const (
	// ringLines, or up to twice as many, are kept in memory for each replica.
	ringLines = 1000
	// goneRings is how many replicas that are no more are remembered.
	goneRings = 32
	// fileBytes is where a file is rotated; one older file is kept.
	fileBytes = 8 << 20
	// lineBytes is where a line is cut in two.
	lineBytes = 64 << 10
	// followBuffer is how many lines a slow follower may lag before it loses some.
	followBuffer = 4096
)

// Line is one line of a replica's output, without its line feed.
type Line struct {
	Workload, Replica, Text string

	seq int64
}

// Hub gathers the output of all replicas. Safe for concurrent use.
type Hub struct {
	dir string

	mu        sync.Mutex
	seq       int64
	rings     map[string]*Writer
	gone      []string // replicas that are no more, oldest first
	followers map[*follower]bool
}

type follower struct {
	name string
	out  chan Line
	lost int
}

// NewHub returns a hub that writes files to dir, which it makes. What an earlier
// run wrote there moves to a directory beside it.
func NewHub(dir string) (*Hub, error) {
	before := dir + ".before"
	if err := os.RemoveAll(before); err != nil {
		return nil, fmt.Errorf("make room for logs: %w", err)
	}
	if err := os.Rename(dir, before); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("keep the logs of the run before: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make room for logs: %w", err)
	}
	return &Hub{dir: dir, rings: map[string]*Writer{}, followers: map[*follower]bool{}}, nil
}

// Writer returns where a replica's output goes. It lasts over restarts of the
// replica's container; Close ends it.
func (h *Hub) Writer(workload, replica string) *Writer {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &Writer{hub: h, workload: workload, replica: replica, path: filepath.Join(h.dir, replica+".log")}
	h.rings[replica] = w
	return w
}

// Tail returns at most n of the latest lines of a workload, of a replica, or of
// all when name is empty, in the order in which they came.
func (h *Hub) Tail(name string, n int) []Line {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tail(name, n)
}

func (h *Hub) tail(name string, n int) []Line {
	var all []Line
	for _, w := range h.rings {
		if name == "" || name == w.replica || name == w.workload {
			all = append(all, w.lines...)
		}
	}
	slices.SortFunc(all, func(a, b Line) int { return cmp.Compare(a.seq, b.seq) })
	return all[max(0, len(all)-n):]
}

// Follow calls f with the latest n lines and then with each new one, until ctx
// ends or f fails. A reader that is too slow is told how many lines it missed.
func (h *Hub) Follow(ctx context.Context, name string, n int, f func(Line) error) error {
	sub := &follower{name: name, out: make(chan Line, followBuffer)}
	h.mu.Lock()
	past := h.tail(name, n)
	h.followers[sub] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.followers, sub)
		h.mu.Unlock()
	}()
	for _, line := range past {
		if err := f(line); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line := <-sub.out:
			h.mu.Lock()
			lost := sub.lost
			sub.lost = 0
			h.mu.Unlock()
			if lost > 0 {
				if err := f(Line{Replica: "engine", Text: fmt.Sprintf("%d lines were not shown: they came faster than they could be printed", lost)}); err != nil {
					return err
				}
			}
			if err := f(line); err != nil {
				return err
			}
		}
	}
}

// Known tells whether anything was kept under a name.
func (h *Hub) Known(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.rings {
		if name == w.replica || name == w.workload {
			return true
		}
	}
	return false
}

// Writer splits a replica's output into lines. It never blocks its process for a
// reader's sake. Safe for concurrent use.
type Writer struct {
	hub               *Hub
	workload, replica string
	path              string

	// guarded by hub.mu
	lines   []Line
	partial []byte
	file    *os.File
	size    int
}

// Write implements io.Writer. It never fails: a full disk must not end a
// replica, and the lines in memory stay.
func (w *Writer) Write(text []byte) (int, error) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.store(text)
	w.partial = append(w.partial, text...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte("\n"))
		if !found {
			if len(w.partial) < lineBytes {
				return len(text), nil
			}
			line, rest = w.partial[:lineBytes], w.partial[lineBytes:]
		}
		w.keep(string(bytes.TrimSuffix(line, []byte("\r"))))
		w.partial = append(w.partial[:0], rest...)
	}
}

// Close ends the replica's file. Its latest lines stay for a while.
func (w *Writer) Close() error {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(w.partial) > 0 {
		w.keep(string(w.partial))
		w.partial = nil
	}
	h.gone = append(h.gone, w.replica)
	if len(h.gone) > goneRings {
		delete(h.rings, h.gone[0])
		h.gone = h.gone[1:]
	}
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

func (w *Writer) keep(text string) {
	h := w.hub
	h.seq++
	line := Line{Workload: w.workload, Replica: w.replica, Text: text, seq: h.seq}
	if len(w.lines) == 2*ringLines {
		w.lines = w.lines[:copy(w.lines, w.lines[ringLines:])]
	}
	w.lines = append(w.lines, line)
	for sub := range h.followers {
		if sub.name != "" && sub.name != w.replica && sub.name != w.workload {
			continue
		}
		select {
		case sub.out <- line:
		default:
			sub.lost++
		}
	}
}

func (w *Writer) store(text []byte) {
	if w.file == nil || w.size > fileBytes {
		if w.file != nil {
			w.file.Close()
			_ = os.Rename(w.path, w.path+".1")
		}
		var err error
		if w.file, err = os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			w.file = nil
			return
		}
		w.size = 0
	}
	n, _ := w.file.Write(text)
	w.size += n
}

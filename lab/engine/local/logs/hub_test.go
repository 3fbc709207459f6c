package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newHub(t *testing.T) (*Hub, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "logs")
	h, err := NewHub(dir)
	if err != nil {
		t.Fatal(err)
	}
	return h, dir
}

func texts(lines []Line) (all []string) {
	for _, l := range lines {
		all = append(all, l.Replica+" "+l.Text)
	}
	return all
}

func TestTail(t *testing.T) {
	h, dir := newHub(t)
	a1, a2, b1 := h.Writer("a", "a-1"), h.Writer("a", "a-2"), h.Writer("b", "b-1")
	fmt.Fprint(a1, "one\ntwo half")
	fmt.Fprint(b1, "three\r\n")
	fmt.Fprint(a2, "four\n")
	fmt.Fprint(a1, " two\n")
	for _, test := range []struct {
		name string
		n    int
		want []string
	}{
		{"", 10, []string{"a-1 one", "b-1 three", "a-2 four", "a-1 two half two"}},
		{"", 2, []string{"a-2 four", "a-1 two half two"}},
		{"a", 10, []string{"a-1 one", "a-2 four", "a-1 two half two"}},
		{"b-1", 10, []string{"b-1 three"}},
		{"b-1", 0, nil},
		{"c", 10, nil},
	} {
		if got := texts(h.Tail(test.name, test.n)); !slices.Equal(got, test.want) {
			t.Errorf("tail of %q, %d: %q, want %q", test.name, test.n, got, test.want)
		}
	}
	fmt.Fprint(a1, "the end")
	a1.Close()
	if got := texts(h.Tail("a-1", 1)); !slices.Equal(got, []string{"a-1 the end"}) {
		t.Errorf("after the end: %q", got)
	}
	text, err := os.ReadFile(filepath.Join(dir, "a-1.log"))
	if err != nil || string(text) != "one\ntwo half two\nthe end" {
		t.Errorf("file %q, %v", text, err)
	}
}

func TestMemoryAndFilesAreBounded(t *testing.T) {
	h, dir := newHub(t)
	w := h.Writer("a", "a-1")
	long := strings.Repeat("x", lineBytes) + "\n"
	for range 2 * fileBytes / len(long) * 2 {
		fmt.Fprint(w, long)
	}
	for i := range 5 * ringLines {
		fmt.Fprintln(w, i)
	}
	if n := len(h.Tail("", 1<<20)); n < ringLines || n > 2*ringLines {
		t.Errorf("%d lines are kept", n)
	}
	w.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v: one file and one before it wanted", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Size() > fileBytes+2*lineBytes {
			t.Errorf("%s: %v, %v", e.Name(), info, err)
		}
	}
	for i := range goneRings + 10 {
		h.Writer("b", fmt.Sprint("b-", i)).Close()
	}
	if h.Known("a-1") || !h.Known("b") {
		t.Error("the oldest replica that is no more must be forgotten, the latest kept")
	}
}

func TestFollow(t *testing.T) {
	h, _ := newHub(t)
	w := h.Writer("a", "a-1")
	fmt.Fprint(w, "one\ntwo\n")
	var got []string
	enough := errors.New("enough")
	err := h.Follow(t.Context(), "a", 1, func(l Line) error {
		got = append(got, l.Text)
		if l.Text == "two" { // it follows by now
			fmt.Fprint(h.Writer("b", "b-1"), "other\n")
			fmt.Fprint(w, "three\n")
		}
		if l.Text == "three" {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("%q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Follow(ctx, "", 0, func(Line) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

func TestSlowFollowerIsTold(t *testing.T) {
	h, _ := newHub(t)
	w := h.Writer("a", "a-1")
	fmt.Fprint(w, "begin\n")
	lost := 0
	enough := errors.New("enough")
	err := h.Follow(t.Context(), "", 1, func(l Line) error {
		if l.Text == "begin" {
			for i := range followBuffer + 7 {
				fmt.Fprintln(w, i)
			}
			return nil
		}
		if l.Replica == "engine" {
			_, _ = fmt.Sscan(l.Text, &lost)
			return nil
		}
		return enough
	})
	if !errors.Is(err, enough) || lost != 7 {
		t.Errorf("%d lines lost, want 7 (%v)", lost, err)
	}
}

func TestRunBeforeIsKept(t *testing.T) {
	h, dir := newHub(t)
	w := h.Writer("a", "a-1")
	fmt.Fprint(w, "old\n")
	w.Close()
	if _, err := NewHub(dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir+".before", "a-1.log")); err != nil || string(text) != "old\n" {
		t.Errorf("%q, %v", text, err)
	}
}

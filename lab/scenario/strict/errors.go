package strict

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Place is where something stands in a file; lines and columns count from 1.
type Place struct {
	File         string
	Line, Column int
}

// String is the place as compilers write it.
func (p Place) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Error is one mistake in a file.
type Error struct {
	Place
	Text string
}

// Error is the mistake after its place.
func (e *Error) Error() string { return e.Place.String() + ": " + e.Text }

// Errors is every mistake of a file, in the file's order.
type Errors []*Error

// Error is one mistake a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Sorted puts mistakes in the file's order, each once. It is nil, as an error
// too, when there are none.
func (e Errors) Sorted() error {
	if len(e) == 0 {
		return nil
	}
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Text, b.Text))
	})
	return slices.CompactFunc(sorted, func(a, b *Error) bool { return *a == *b })
}

// flat is the errors that were joined to one.
func flat(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		var all []error
		for _, one := range joined.Unwrap() {
			all = append(all, flat(one)...)
		}
		return all
	}
	return []error{err}
}

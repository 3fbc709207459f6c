package strict

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSize bounds a file that people write.
const maxSize = 1 << 20

// Document is a YAML file that is read, with the mistakes found in it so far.
// It is not safe for concurrent use.
type Document struct {
	name     string
	root     *yaml.Node
	places   map[string]Place // by path, such as "load.shape.kind"
	mistakes Errors
}

// Parse reads the text of a file with one YAML document that is a mapping. The
// name is what errors call the file.
func Parse(name string, text []byte) (*Document, error) {
	d := &Document{name: name, places: make(map[string]Place)}
	begin := Place{name, 1, 1}
	if len(text) > maxSize {
		return nil, Errors{{begin, fmt.Sprintf("the file has %d bytes; at most %d are read", len(text), maxSize)}}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, Errors{{begin, "the file is empty"}}
	case err != nil:
		return nil, Errors{syntax(name, string(text), err)}
	}
	var more yaml.Node
	if err := decoder.Decode(&more); err == nil {
		return nil, Errors{{d.at(&more), "a second document begins here; one file holds one"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, Errors{syntax(name, string(text), err)}
	}
	d.root = document.Content[0]
	if d.root.Kind != yaml.MappingNode {
		return nil, Errors{{d.at(d.root), "this is " + kindOf(d.root) + "; a file is a mapping of keys to values"}}
	}
	return d, nil
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntax gives a mistake in the YAML itself its place. The parser tells the line
// only; the column is that of its first letter.
func syntax(name, text string, err error) *Error {
	place, what := Place{name, 1, 1}, err.Error()
	if m := syntaxError.FindStringSubmatch(what); m != nil {
		what = m[2]
		if line, err := strconv.Atoi(m[1]); err == nil {
			place.Line = line
			if lines := strings.Split(text, "\n"); line <= len(lines) {
				place.Column += len(lines[line-1]) - len(strings.TrimLeft(lines[line-1], " \t"))
			}
		}
	}
	return &Error{place, "this is no YAML: " + what}
}

// Root is the mapping that the file is.
func (d *Document) Root() *yaml.Node { return d.root }

func (d *Document) at(n *yaml.Node) Place { return Place{d.name, max(n.Line, 1), max(n.Column, 1)} }

// At is where the value of a path was last decoded from; for a path that is not
// in the file the nearest one above it.
func (d *Document) At(path string) Place {
	for {
		if place, ok := d.places[path]; ok {
			return place
		}
		if path == "" {
			return d.at(d.root)
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// Has tells whether the file gives a value for a path.
func (d *Document) Has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// Wrong notes a mistake in the value of a path.
func (d *Document) Wrong(path, format string, args ...any) {
	d.mistakes = append(d.mistakes, &Error{d.At(path), fmt.Sprintf(format, args...)})
}

// Blame notes every error that a check of the value at path gave. An error whose
// text begins with a path below it, such as "shape.rate is ...", is put there.
func (d *Document) Blame(path string, err error) {
	for _, one := range flat(err) {
		// A check may begin with what it is of: "nodes: max is 0".
		text := strings.TrimPrefix(one.Error(), path[strings.LastIndex(path, ".")+1:]+": ")
		below, _, _ := strings.Cut(text, " ")
		d.Wrong(join(path, strings.TrimSuffix(below, ":")), "%s", text)
	}
}

// Err is every mistake noted so far; nil when there is none.
func (d *Document) Err() error { return d.mistakes.Sorted() }

func join(path, below string) string {
	if path == "" {
		return below
	}
	return path + "." + below
}

package strict

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// colour is a text that checks itself.
type colour string

func (c *colour) UnmarshalText(text []byte) error {
	if string(text) != "red" {
		return fmt.Errorf("%q is no colour; give red", text)
	}
	*c = colour(text)
	return nil
}

type inlined struct {
	Deep int `yaml:"deep,omitempty"`
}

type everything struct {
	Text    string            `yaml:"text"`
	Flag    bool              `yaml:"flag"`
	Whole   int               `yaml:"whole"`
	Count   uint8             `yaml:"count"`
	Number  float64           `yaml:"number"`
	Time    time.Duration     `yaml:"time"`
	Colour  colour            `yaml:"colour"`
	List    []inlined         `yaml:"list"`
	Map     map[string]string `yaml:"map"`
	Pointer *inlined          `yaml:"pointer"`
	Raw     yaml.Node         `yaml:"raw"`
	Hidden  string            `yaml:"-"`
	Other   string
	inlined `yaml:",inline"`
}

func decode(t *testing.T, text string) (everything, *Document) {
	t.Helper()
	d, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var e everything
	d.Decode(d.Root(), "", &e)
	return e, d
}

func TestDecode(t *testing.T) {
	e, d := decode(t, `
text: 1.10
flag: true
whole: -3
count: 200
number: 2
time: 1m30s
colour: red
list: [{deep: 1}, &two {deep: 2}, *two]
map: {a: 1, b.c: true}
pointer: {deep: 4}
raw: [anything, {goes: here}]
deep: 5
`)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	if e.Text != "1.10" || !e.Flag || e.Whole != -3 || e.Count != 200 || e.Number != 2 || e.Time != 90*time.Second || e.Colour != "red" {
		t.Errorf("scalars: got %+v", e)
	}
	if len(e.List) != 3 || e.List[1].Deep != 2 || e.List[2].Deep != 2 || e.Map["a"] != "1" || e.Map["b.c"] != "true" ||
		e.Pointer == nil || e.Pointer.Deep != 4 || e.Deep != 5 || len(e.Raw.Content) != 2 {
		t.Errorf("the rest: got %+v", e)
	}
	for path, want := range map[string]string{
		"text": "f.yaml:2:7", "list[0].deep": "f.yaml:9:15", "list[2]": "f.yaml:9:35", "map.b.c": "f.yaml:10:18",
		"pointer.nothing.such": "f.yaml:11:10", "nothing": "f.yaml:2:1", "": "f.yaml:2:1",
	} {
		if got := d.At(path).String(); got != want {
			t.Errorf("place of %q: got %s, want %s", path, got, want)
		}
	}
	if d.Has("nothing") || !d.Has("pointer.deep") {
		t.Error("Has does not tell what the file gives")
	}
	var later []any
	if err := e.Raw.Decode(&later); err != nil || len(later) != 2 {
		t.Errorf("raw: got %v, %v", later, err)
	}
}

func TestWrongValues(t *testing.T) {
	for text, want := range map[string]string{
		"flag: yes":                      `f.yaml:1:7: this is "yes"; give true or false`,
		"whole: 1.5":                     `f.yaml:1:8: this is "1.5"; give a whole number`,
		"whole: '1'":                     `f.yaml:1:8: this is "1"; give a whole number`,
		"count: -1":                      `f.yaml:1:8: this is "-1"; give a whole number`,
		"count: 256":                     `f.yaml:1:8: this is "256"; give a whole number`,
		"number: 1e999":                  `f.yaml:1:9: this is "1e999"; give a number`,
		"time: 30":                       `f.yaml:1:7: this is "30"; give a duration with its unit, such as 90s or 5m`,
		"colour: blue":                   `f.yaml:1:9: "blue" is no colour; give red`,
		"colour: [red]":                  `f.yaml:1:9: this is a list; give a text`,
		"list: {deep: 1}":                `f.yaml:1:7: this is a mapping; give a list, each item after a dash`,
		"map: 3":                         `f.yaml:1:6: this is "3"; give a mapping of keys to values`,
		"pointer: ~":                     `f.yaml:1:10: no value is given; give a mapping of keys to values or leave the key out`,
		"map: {[a]: b}":                  `f.yaml:1:7: a key is a list; give a word`,
		"Other: x":                       `f.yaml:1:1: unknown key "Other"`,
		"Hidden: x":                      `f.yaml:1:1: unknown key "Hidden"; known: colour, count, deep, flag`,
		"inlined: {deep: 1}":             `f.yaml:1:1: unknown key "inlined"`,
		"list:\n  - deep: 1\n    dep: 2": `f.yaml:3:5: unknown key "dep"; did you mean "deep"? Known: deep`,
		"map: {a: b, a: c}":              `f.yaml:1:13: the key "a" is given twice; first on line 1`,
	} {
		_, d := decode(t, text)
		err := d.Err()
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestMistakesComeInTheFilesOrderAndOnce(t *testing.T) {
	_, d := decode(t, "number: x\nwhole: y\n")
	d.Wrong("number", "and so on")
	d.Wrong("whole", "again")
	d.Wrong("whole", "again")
	want := "f.yaml:1:9: and so on\nf.yaml:1:9: this is \"x\"; give a number\nf.yaml:2:8: again\nf.yaml:2:8: this is \"y\"; give a whole number"
	err := d.Err()
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	all, ok := errors.AsType[Errors](err)
	if !ok || len(all) != 4 || all[2].Line != 2 || all[2].Column != 8 || all[2].File != "f.yaml" || all[2].Text != "again" {
		t.Errorf("got %#v", all)
	}
}

func TestChecksAreBlamedOnWhatTheyAreAbout(t *testing.T) {
	_, d := decode(t, "pointer:\n  deep: 3\nlist:\n  - deep: 1\n")
	d.Blame("pointer", nil)
	if d.Err() != nil {
		t.Fatal("blamed for nothing")
	}
	d.Blame("pointer", errors.Join(
		errors.New("deep is 3; give 4"),
		fmt.Errorf("in all: %w", errors.Join(errors.New("pointer: deep: too deep"), errors.New("something else"))),
	))
	d.Blame("", errors.New("list[0].deep is 1"))
	want := "f.yaml:2:3: something else\nf.yaml:2:9: deep is 3; give 4\nf.yaml:2:9: deep: too deep\nf.yaml:4:11: list[0].deep is 1"
	if err := d.Err(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestFilesThatAreNoMapping(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "f.yaml:1:1: the file is empty",
		"# nothing\n":                       "f.yaml:1:1: the file is empty",
		"a: 1\n---\nb: 2\n":                 "f.yaml:2:1: a second document begins here",
		"a: 1\n---\nb: [\n":                 "f.yaml:3:1: this is no YAML",
		"just words":                        "f.yaml:1:1: this is \"just words\"; a file is a mapping",
		"a: b: c":                           "f.yaml:1:1: this is no YAML: mapping values are not allowed",
		"a: 1\n\tb: 2\n":                    "f.yaml:2:2: this is no YAML",
		"a: *gone\n":                        "f.yaml:1:1: this is no YAML: unknown anchor",
		strings.Repeat("# long\n", 200_000): "f.yaml:1:1: the file has 1400000 bytes",
	} {
		_, err := Parse("f.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

func TestNear(t *testing.T) {
	known := []string{"duration", "warmup", "at-least", "at-most", "for", "at"}
	for word, want := range map[string]string{
		"duraton": "duration", "druation": "duration", "at_least": "at-least", "atMost": "at-most", "Warm-Up": "warmup",
		"fro": "for", "a": "at", "spoon": "", "minimum": "", "": "",
	} {
		if got, ok := Near(word, known); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", word, got, ok, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"a: 1", "list: [{deep: 1}, &x {deep: 2}, *x]", "map: &m {a: *m}", "? [a]\n: b", "<<: {a: 1}", "a: !!binary x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse("f.yaml", []byte(text))
		if err != nil {
			return
		}
		var e everything
		d.Decode(d.Root(), "", &e)
		if all, ok := errors.AsType[Errors](d.Err()); ok {
			for _, one := range all {
				if one.Line < 1 || one.Column < 1 || one.Text == "" {
					t.Errorf("a mistake without a place or words: %+v", one)
				}
			}
		}
	})
}

func TestErrorsAreNoErrorWhenThereAreNone(t *testing.T) {
	if err := (Errors{}).Sorted(); err != nil {
		t.Errorf("got %v", err)
	}
}

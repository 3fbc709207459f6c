package strict

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Decode puts the value of a node into what target points to, and notes every
// mistake with the path that the value has in the file. Structs say by their
// `yaml` tags which keys there are. A field of the type yaml.Node takes any
// value as it is, to be decoded later.
//
// A duration is written as Go writes it, such as 1m30s. A string takes any
// scalar by its letters, so that a version or a knob's value needs no quotes.
func (d *Document) Decode(n *yaml.Node, path string, target any) {
	d.decode(n, reflect.ValueOf(target).Elem(), path)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	nodeType     = reflect.TypeFor[yaml.Node]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *Document) decode(n *yaml.Node, v reflect.Value, path string) {
	d.places[path] = d.at(n)
	if n.Kind == yaml.AliasNode {
		// The target's type ends the way down even where an alias stands within
		// what it stands for.
		d.decode(n.Alias, v, path)
		d.places[path] = d.at(n)
		return
	}
	if n.ShortTag() == "!!null" && v.Type() != nodeType {
		d.Wrong(path, "no value is given; give %s or leave the key out", wanted(v.Type()))
		return
	}
	switch {
	case v.Type() == nodeType:
		v.Set(reflect.ValueOf(*n))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case v.Kind() == reflect.Struct && !reflect.PointerTo(v.Type()).Implements(textType):
		d.fields(n, v, path)
	case v.Kind() == reflect.Map:
		d.entries(n, v, path)
	case v.Kind() == reflect.Slice:
		d.items(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// fields decodes a mapping whose keys a struct knows.
func (d *Document) fields(n *yaml.Node, v reflect.Value, path string) {
	known := make(map[string]reflect.Value)
	collect(v, known)
	d.pairs(n, v.Type(), path, func(key string, at, value *yaml.Node) {
		field, ok := known[key]
		if !ok {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			d.mistakes = append(d.mistakes, &Error{d.at(at), Unknown("unknown key", key, names)})
			return
		}
		d.decode(value, field, join(path, key))
	})
}

// collect finds the fields of a struct by their keys, inlined ones included.
func collect(v reflect.Value, known map[string]reflect.Value) {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			collect(v.Field(i), known)
		case name != "" && name != "-":
			known[name] = v.Field(i)
		}
	}
}

// entries decodes a mapping with keys of the writer's own.
func (d *Document) entries(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, v.Type(), path, func(key string, _, value *yaml.Node) {
		entry := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, entry, join(path, key))
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), entry)
	})
}

// pairs visits the keys of a mapping.
func (d *Document) pairs(n *yaml.Node, t reflect.Type, path string, visit func(key string, at, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.Wrong(path, "this is %s; give %s", kindOf(n), wanted(t))
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, value := n.Content[i], n.Content[i+1]
		wrong := func(format string, args ...any) {
			d.mistakes = append(d.mistakes, &Error{d.at(at), fmt.Sprintf(format, args...)})
		}
		switch first, twice := seen[at.Value]; {
		case at.ShortTag() == "!!merge":
			wrong("merge keys (<<) are not read; write the keys out")
		case at.Kind != yaml.ScalarNode:
			wrong("a key is %s; give a word", kindOf(at))
		case twice:
			wrong("the key %q is given twice; first on line %d", at.Value, first)
		default:
			seen[at.Value] = at.Line
			visit(at.Value, at, value)
		}
	}
}

func (d *Document) items(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.Wrong(path, "this is %s; give %s", kindOf(n), wanted(v.Type()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *Document) scalar(n *yaml.Node, v reflect.Value, path string) {
	ok := n.Kind == yaml.ScalarNode
	if ok && v.CanAddr() {
		if target, is := v.Addr().Interface().(encoding.TextUnmarshaler); is {
			if err := target.UnmarshalText([]byte(n.Value)); err != nil {
				d.Wrong(path, "%v", err)
			}
			return
		}
	}
	if ok {
		ok = setScalar(n, v)
	}
	if !ok {
		d.Wrong(path, "this is %s; give %s", kindOf(n), wanted(v.Type()))
	}
}

func setScalar(n *yaml.Node, v reflect.Value) bool {
	number := n.ShortTag() == "!!int" || n.ShortTag() == "!!float"
	switch {
	case v.Type() == durationType:
		t, err := time.ParseDuration(n.Value)
		v.SetInt(int64(t))
		return err == nil
	case v.Kind() == reflect.String:
		v.SetString(n.Value)
		return true
	case v.Kind() == reflect.Bool:
		v.SetBool(n.Value == "true")
		return n.ShortTag() == "!!bool" && slices.Contains([]string{"true", "false"}, n.Value)
	case v.CanInt():
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		v.SetInt(i)
		return number && err == nil
	case v.CanUint():
		u, err := strconv.ParseUint(n.Value, 10, v.Type().Bits())
		v.SetUint(u)
		return number && err == nil
	case v.CanFloat():
		f, err := strconv.ParseFloat(n.Value, 64)
		v.SetFloat(f)
		return number && err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	}
	return false
}

// wanted says what a type is written as.
func wanted(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return wanted(t.Elem())
	case t == durationType:
		return "a duration with its unit, such as 90s or 5m"
	case reflect.PointerTo(t).Implements(textType), t.Kind() == reflect.String:
		return "a text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return "a mapping of keys to values"
	case t.Kind() == reflect.Slice:
		return "a list, each item after a dash"
	}
	return "a whole number"
}

// kindOf says what a node is.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode:
		return kindOf(n.Alias)
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

package knobs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// kind is what a knob's value can be.
type kind interface {
	bool | int64 | float64 | time.Duration | string
}

// Knob is one setting of a replica. Its methods are safe for concurrent use.
type Knob[T kind] struct {
	declared *knobv1.Knob
	def      T
	current  atomic.Pointer[T]
	set      *Set
	watchers []func(T) // guarded by set.mu
}

// The kinds of knobs.
type (
	Bool     = Knob[bool]
	Int      = Knob[int64]
	Float    = Knob[float64]
	Duration = Knob[time.Duration]
	Choice   = Knob[string]
)

// Get returns the value in force.
func (k *Knob[T]) Get() T { return *k.current.Load() }

// OnChange has f called with the new value after each change. All functions of a Set are called one at a time, in the
// order in which knobs were declared and functions added; f must not wait, nor call the Set or OnChange.
func (k *Knob[T]) OnChange(f func(T)) {
	k.set.mu.Lock()
	defer k.set.mu.Unlock()
	k.watchers = append(k.watchers, f)
}

// knob is a Knob of any kind, as a Set holds it.
type knob interface {
	declaration() *knobv1.Knob
	// accept checks a value, and returns what makes it the one in force. That tells whether it differs from the one
	// before.
	accept(value string) (put func() bool, err error)
	// reset makes the default the value in force, and tells whether it was another.
	reset() bool
	// tell calls the functions that wait for a change.
	tell()
	// number is the value as a metric.
	number() float64
	text() string
}

func (k *Knob[T]) declaration() *knobv1.Knob { return k.declared }

func (k *Knob[T]) accept(value string) (func() bool, error) {
	parsed, err := parse(k.declared, value)
	if err != nil {
		return nil, err
	}
	return func() bool { return k.put(parsed.(T)) }, nil
}

func (k *Knob[T]) reset() bool { return k.put(k.def) }

func (k *Knob[T]) put(value T) bool {
	return *k.current.Swap(&value) != value
}

func (k *Knob[T]) tell() {
	for _, f := range k.watchers {
		f(k.Get())
	}
}

func (k *Knob[T]) number() float64 {
	switch value := any(k.Get()).(type) {
	case bool:
		if value {
			return 1
		}
		return 0
	case int64:
		return float64(value)
	case float64:
		return value
	case time.Duration:
		return value.Seconds()
	case string:
		return float64(slices.Index(k.declared.GetChoices(), value))
	}
	panic(fmt.Sprintf("knobs: a knob of type %T", k))
}

func (k *Knob[T]) text() string { return write(k.Get()) }

// write is the one form in which a value travels; parse reads it.
func write[T kind](value T) string {
	switch value := any(value).(type) {
	case bool:
		return strconv.FormatBool(value)
	case int64:
		return strconv.FormatInt(value, 10)
	case float64:
		return strconv.FormatFloat(value, 'g', -1, 64)
	case time.Duration:
		return value.String()
	case string:
		return value
	}
	panic(fmt.Sprintf("knobs: a value of type %T", value))
}

// Check tells what is wrong with a value for a declared knob, naming the knob, the value and what is allowed.
func Check(k *knobv1.Knob, value string) error {
	_, err := parse(k, value)
	return err
}

// parse reads a value: a bool, int64, float64, time.Duration or string according to the knob's type.
func parse(k *knobv1.Knob, value string) (any, error) {
	refused := func(what string) error {
		return fmt.Errorf("knob %s: value %q is not allowed, give %s", k.GetName(), value, what+bounds(k))
	}
	switch k.GetType() {
	case knobv1.KnobType_KNOB_TYPE_BOOL:
		if value != "true" && value != "false" {
			return nil, refused("true or false")
		}
		return value == "true", nil
	case knobv1.KnobType_KNOB_TYPE_INT:
		return within(k, value, readInt, refused, "a whole number")
	case knobv1.KnobType_KNOB_TYPE_FLOAT:
		return within(k, value, readFloat, refused, "a number")
	case knobv1.KnobType_KNOB_TYPE_DURATION:
		return within(k, value, time.ParseDuration, refused, "a duration such as 250ms")
	case knobv1.KnobType_KNOB_TYPE_CHOICE:
		if !slices.Contains(k.GetChoices(), value) {
			return nil, refused(strings.Join(k.GetChoices(), ", "))
		}
		return value, nil
	}
	return nil, fmt.Errorf("knob %s: its type %v is not known here, so no value can be checked", k.GetName(), k.GetType())
}

// within reads a value that may have bounds.
func within[T int64 | float64 | time.Duration](k *knobv1.Knob, value string, read func(string) (T, error), refused func(string) error, what string) (any, error) {
	v, err := read(value)
	if err != nil {
		return nil, refused(what)
	}
	for _, bound := range []struct {
		text    string
		outside func(T) bool
	}{
		{k.GetMinimum(), func(b T) bool { return v < b }},
		{k.GetMaximum(), func(b T) bool { return v > b }},
	} {
		if bound.text == "" {
			continue
		}
		b, err := read(bound.text)
		if err != nil {
			return nil, fmt.Errorf("knob %s: its bound %q is not %s", k.GetName(), bound.text, what)
		}
		if bound.outside(b) {
			return nil, refused(what)
		}
	}
	return v, nil
}

func bounds(k *knobv1.Knob) string {
	switch least, most := k.GetMinimum(), k.GetMaximum(); {
	case least != "" && most != "":
		return ", " + least + " to " + most
	case least != "":
		return ", " + least + " or more"
	case most != "":
		return ", " + most + " or less"
	}
	return ""
}

func readInt(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// readFloat reads decimal numbers only: ParseFloat alone would take 0x1p-2, Inf and NaN too.
func readFloat(s string) (float64, error) {
	if strings.Trim(s, "+-.0123456789eE") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

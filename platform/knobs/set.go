package knobs

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// Set is the knobs of one replica, and a prometheus.Collector of their values. It is safe for concurrent use.
//
// Declaring panics on what only a mistake in the program can bring: a name that is taken or not of lower-case words
// with dots, bounds in the wrong order, a choice without choices. A default that lies outside the bounds is no
// mistake, since the environment gives it: it moves the bound.
type Set struct {
	mu    sync.Mutex
	knobs []knob // in the order of declaration
	value *prometheus.Desc

	replicas atomic.Int64
}

var _ prometheus.Collector = (*Set)(nil)

// NewSet returns a Set without knobs.
func NewSet() *Set {
	return &Set{value: prometheus.NewDesc("spillway_knob_value",
		"The value in force of a setting that may change while the replica runs: 0 or 1, a number, seconds, or the index of a choice.",
		[]string{"knob"}, nil)}
}

// Bool declares a knob that is on or off.
func (s *Set) Bool(name string, def bool, help string) *Bool {
	return declare(s, &knobv1.Knob{Name: name, Type: knobv1.KnobType_KNOB_TYPE_BOOL, Help: help}, def)
}

// Int declares a whole number. math.MinInt64 and math.MaxInt64 stand for no bound.
func (s *Set) Int(name string, def, least, most int64, help string) *Int {
	return bounded(s, knobv1.KnobType_KNOB_TYPE_INT, name, help, def, least, most, math.MinInt64, math.MaxInt64)
}

// Float declares a number. Infinities stand for no bound.
func (s *Set) Float(name string, def, least, most float64, help string) *Float {
	if math.IsNaN(def) || math.IsInf(def, 0) {
		panic(fmt.Sprintf("knobs: knob %s: default %v is not a number that can be written", name, def))
	}
	return bounded(s, knobv1.KnobType_KNOB_TYPE_FLOAT, name, help, def, least, most, math.Inf(-1), math.Inf(1))
}

// Duration declares a time. math.MinInt64 and math.MaxInt64 stand for no bound.
func (s *Set) Duration(name string, def, least, most time.Duration, help string) *Duration {
	return bounded(s, knobv1.KnobType_KNOB_TYPE_DURATION, name, help, def, least, most, math.MinInt64, math.MaxInt64)
}

// Choice declares one of several words; def is one of them.
func (s *Set) Choice(name, def string, choices []string, help string) *Choice {
	if !slices.Contains(choices, def) {
		panic(fmt.Sprintf("knobs: knob %s: default %q is none of its choices %q", name, def, choices))
	}
	return declare(s, &knobv1.Knob{Name: name, Type: knobv1.KnobType_KNOB_TYPE_CHOICE, Choices: slices.Clone(choices), Help: help}, def)
}

// bounded declares a knob with bounds; lowest and highest are the bounds that bound nothing.
func bounded[T int64 | float64 | time.Duration](s *Set, kind knobv1.KnobType, name, help string, def, least, most, lowest, highest T) *Knob[T] {
	if !(least <= most) {
		panic(fmt.Sprintf("knobs: knob %s: bounds %v to %v are in the wrong order", name, least, most))
	}
	declared := &knobv1.Knob{Name: name, Type: kind, Help: help}
	if least = min(least, def); least > lowest {
		declared.Minimum = write(least)
	}
	if most = max(most, def); most < highest {
		declared.Maximum = write(most)
	}
	return declare(s, declared, def)
}

func declare[T kind](s *Set, declared *knobv1.Knob, def T) *Knob[T] {
	declared.Default = write(def)
	k := &Knob[T]{declared: declared, def: def, set: s}
	k.current.Store(&def)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isName(declared.GetName()) {
		panic(fmt.Sprintf("knobs: name %q is not allowed, give lower-case words with dots", declared.GetName()))
	}
	if s.find(declared.GetName()) != nil {
		panic(fmt.Sprintf("knobs: knob %s is declared twice", declared.GetName()))
	}
	s.knobs = append(s.knobs, k)
	return k
}

// Apply makes values, as the control plane sends them, the ones in force: all of them before the first function of
// OnChange is called. A knob that is not among them gets its default. A value that is not allowed leaves its knob as it
// is; it and a knob that was not declared are named in the error, and the others are applied all the same.
func (s *Set) Apply(values map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wrong []error
	var puts []func() bool
	var put []knob
	for _, k := range s.knobs {
		value, ok := values[k.declaration().GetName()]
		do := k.reset
		if ok {
			var err error
			if do, err = k.accept(value); err != nil {
				wrong = append(wrong, fmt.Errorf("%w; it stays %s", err, k.text()))
				continue
			}
		}
		puts, put = append(puts, do), append(put, k)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if s.find(name) == nil {
			wrong = append(wrong, fmt.Errorf("knob %s is not known, known are: %s", name, strings.Join(s.names(), ", ")))
		}
	}
	changed := put[:0]
	for i, do := range puts {
		if do() {
			changed = append(changed, put[i])
		}
	}
	for _, k := range changed {
		k.tell()
	}
	return errors.Join(wrong...)
}

// Declared returns the knobs in the order of their declaration, for the control plane. They are not to be changed.
func (s *Set) Declared() []*knobv1.Knob {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*knobv1.Knob, len(s.knobs))
	for i, k := range s.knobs {
		out[i] = k.declaration()
	}
	return out
}

// Replicas is how many replicas the service has, this one included once it is ready, as the control plane last said it;
// 0 while it has not. Replicas that drain are counted: their calls under way still call others.
func (s *Set) Replicas() int { return int(s.replicas.Load()) }

// SetReplicas takes the control plane's word on Replicas. 0, from one that does not tell, leaves what is known.
func (s *Set) SetReplicas(n int) {
	if n > 0 {
		s.replicas.Store(int64(n))
	}
}

// Describe implements prometheus.Collector.
func (s *Set) Describe(descs chan<- *prometheus.Desc) { descs <- s.value }

// Collect implements prometheus.Collector.
func (s *Set) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	knobs := slices.Clone(s.knobs)
	s.mu.Unlock()
	for _, k := range knobs {
		out <- prometheus.MustNewConstMetric(s.value, prometheus.GaugeValue, k.number(), k.declaration().GetName())
	}
}

// find returns a knob by its name, nil when there is none.
func (s *Set) find(name string) knob {
	for _, k := range s.knobs {
		if k.declaration().GetName() == name {
			return k
		}
	}
	return nil
}

func (s *Set) names() []string {
	names := make([]string, len(s.knobs))
	for i, k := range s.knobs {
		names[i] = k.declaration().GetName()
	}
	slices.Sort(names)
	return names
}

// isName allows lower-case words of letters, digits and inner underscores, joined by dots.
func isName(name string) bool {
	for word := range strings.SplitSeq(name, ".") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || word[0] == '_' || word[len(word)-1] == '_' {
			return false
		}
	}
	return len(name) <= 100
}

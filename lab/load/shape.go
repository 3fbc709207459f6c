package load

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shape is the rate of arrivals over time: journeys per real second, at nominal
// times since the load began. Only the fields that its kind names may be set.
//
//	constant   rate
//	ramp       from, to, over; at     from until at, then straight to `to` within over
//	step       base, steps            base, then the rate of the latest step
//	spike      base, peak, at, for    base, but peak from at on for the time of for
//	sine       base, peak, period     begins at base, is at peak half a period later
//	sawtooth   base, peak, period     rises straight from base to peak, falls at once
//	csv        file                   rows of seconds,rate; a rate holds until the next row
type Shape struct {
	Kind string `yaml:"kind" json:"kind"`

	Rate   float64       `yaml:"rate" json:"rate,omitempty"`
	From   float64       `yaml:"from" json:"from,omitempty"`
	To     float64       `yaml:"to" json:"to,omitempty"`
	Base   float64       `yaml:"base" json:"base,omitempty"`
	Peak   float64       `yaml:"peak" json:"peak,omitempty"`
	At     time.Duration `yaml:"at" json:"at,omitempty"`
	For    time.Duration `yaml:"for" json:"for,omitempty"`
	Over   time.Duration `yaml:"over" json:"over,omitempty"`
	Period time.Duration `yaml:"period" json:"period,omitempty"`
	Steps  []Step        `yaml:"steps" json:"steps,omitempty"`
	// File is a CSV file; Resolve reads it.
	File string `yaml:"file" json:"file,omitempty"`

	rows []Step // of File
}

// Step is a rate that holds from At on.
type Step struct {
	At   time.Duration `yaml:"at" json:"at"`
	Rate float64       `yaml:"rate" json:"rate"`
}

// fieldsOf says which fields a kind has, by their names in YAML. Those in the
// first list are required: the durations have to be above 0. Rates may be 0.
var fieldsOf = map[string]struct{ required, optional []string }{
	"constant": {[]string{"rate"}, nil},
	"ramp":     {[]string{"over"}, []string{"from", "to", "at"}},
	"step":     {[]string{"steps"}, []string{"base"}},
	"spike":    {[]string{"peak", "for"}, []string{"base", "at"}},
	"sine":     {[]string{"peak", "period"}, []string{"base"}},
	"sawtooth": {[]string{"peak", "period"}, []string{"base"}},
	"csv":      {[]string{"file"}, nil},
}

// shapeKinds are the kinds in the order in which they are explained.
var shapeKinds = []string{"constant", "ramp", "step", "spike", "sine", "sawtooth", "csv"}

// highestRate bounds the rate of a shape, in journeys per second.
const highestRate = 100_000

// Validate names the first field that makes no sense, or does not belong to the
// kind.
func (s Shape) Validate() error {
	fields, ok := fieldsOf[s.Kind]
	if !ok {
		return fmt.Errorf("shape.kind is %q; give one of %s", s.Kind, strings.Join(shapeKinds, ", "))
	}
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "kind" {
			continue
		}
		set := !v.Field(i).IsZero()
		required := slices.Contains(fields.required, name)
		if set && !required && !slices.Contains(fields.optional, name) {
			return fmt.Errorf("shape.%s does not belong to the kind %s, which has %s", name, s.Kind,
				strings.Join(slices.Concat(fields.required, fields.optional), ", "))
		}
		switch value := v.Field(i).Interface().(type) {
		case float64:
			if err := checkRate("shape."+name, value); err != nil {
				return err
			}
		case time.Duration:
			if value < 0 {
				return fmt.Errorf("shape.%s is %s; it cannot be negative", name, value)
			}
		}
		if required && !set {
			return fmt.Errorf("shape.%s is missing or 0; the kind %s needs it", name, s.Kind)
		}
	}
	if (s.Kind == "sine" || s.Kind == "sawtooth") && s.Peak < s.Base {
		return fmt.Errorf("shape.peak is %v, below the base of %v", s.Peak, s.Base)
	}
	if s.Kind == "csv" {
		if s.rows == nil {
			return fmt.Errorf("shape.file %s has not been read", s.File)
		}
		return nil
	}
	return checkSteps("shape.steps", s.Steps)
}

func checkRate(what string, rate float64) error {
	if !(rate >= 0 && rate <= highestRate) { // also NaN
		return fmt.Errorf("%s is %v; give journeys per second from 0 to %d", what, rate, highestRate)
	}
	return nil
}

func checkSteps(what string, steps []Step) error {
	for i, step := range steps {
		if err := checkRate(fmt.Sprintf("%s[%d].rate", what, i), step.Rate); err != nil {
			return err
		}
		if step.At < 0 || i > 0 && step.At <= steps[i-1].At {
			return fmt.Errorf("%s[%d].at is %s; times have to rise, from 0 on", what, i, step.At)
		}
	}
	return nil
}

// Resolve reads the file of a csv shape, relative to dir, and makes its name
// independent of dir. It leaves the other kinds as they are.
func (p *Plan) Resolve(dir string) error {
	s := &p.Shape
	if s.Kind != "csv" || s.File == "" {
		return nil
	}
	if !filepath.IsAbs(s.File) {
		s.File = filepath.Join(dir, s.File)
	}
	f, err := os.Open(s.File)
	if err != nil {
		return fmt.Errorf("shape.file: %w", err)
	}
	defer f.Close()
	if s.rows, err = readRates(f); err != nil {
		return fmt.Errorf("shape.file %s: %w", s.File, err)
	}
	return nil
}

// readRates reads rows of seconds,rate. A first row that is no number is taken
// for a heading; empty lines and those that begin with # are passed over.
func readRates(text io.Reader) (rows []Step, err error) {
	r := csv.NewReader(text)
	r.Comment, r.FieldsPerRecord, r.TrimLeadingSpace = '#', 2, true
	for first := true; ; first = false {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var row [2]float64
		bad := -1
		for i, field := range record {
			if row[i], err = strconv.ParseFloat(strings.TrimSpace(field), 64); err != nil {
				bad = i
				break
			}
		}
		line, column := r.FieldPos(max(bad, 0))
		switch {
		case bad == 0 && first:
			continue
		case bad >= 0:
			return nil, fmt.Errorf("%d:%d: %q is no number", line, column, record[bad])
		case !(row[0] >= 0 && row[0] <= 1e8) || len(rows) > 0 && seconds(row[0]) <= rows[len(rows)-1].At:
			return nil, fmt.Errorf("%d:%d: the time is %v s; times have to rise, from 0 on", line, column, row[0])
		}
		if err := checkRate("the rate", row[1]); err != nil {
			line, column = r.FieldPos(1)
			return nil, fmt.Errorf("%d:%d: %w", line, column, err)
		}
		rows = append(rows, Step{At: seconds(row[0]), Rate: row[1]})
	}
	if len(rows) == 0 {
		return nil, errors.New("it has no rows; give lines of seconds,rate")
	}
	return rows, nil
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// RateAt is the rate, in journeys per real second, at the nominal time t since
// the load began. The shape has to be valid.
func (s Shape) RateAt(t time.Duration) float64 {
	switch s.Kind {
	case "constant":
		return s.Rate
	case "ramp":
		return s.From + (s.To-s.From)*min(max((t-s.At).Seconds()/s.Over.Seconds(), 0), 1)
	case "step":
		return rateOf(s.Steps, t, s.Base)
	case "spike":
		if t >= s.At && t < s.At+s.For {
			return s.Peak
		}
		return s.Base
	case "sine":
		return s.Base + (s.Peak-s.Base)*(1-math.Cos(2*math.Pi*t.Seconds()/s.Period.Seconds()))/2
	case "sawtooth":
		return s.Base + (s.Peak-s.Base)*(t%s.Period).Seconds()/s.Period.Seconds()
	default: // csv
		return rateOf(s.rows, t, 0)
	}
}

// rateOf is the rate of the latest step at t, before before the first.
func rateOf(steps []Step, t time.Duration, before float64) float64 {
	i, found := slices.BinarySearchFunc(steps, t, func(step Step, t time.Duration) int { return int(max(min(step.At-t, 1), -1)) })
	if found {
		return steps[i].Rate
	}
	if i == 0 {
		return before
	}
	return steps[i-1].Rate
}

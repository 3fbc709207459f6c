package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"spillway.dev/lab/measure"
)

// The files of a run's directory.
const (
	pageFile    = "index.html"
	summaryFile = "report.json"
	dataFile    = "data.json"
	csvDir      = "csv"
)

// summary is report.json, the part that other programs read: its keys stay.
type summary struct {
	Scenario  string           `json:"scenario"`
	Seed      uint64           `json:"seed"`
	Commit    string           `json:"commit"`
	Timelapse float64          `json:"timelapse"`
	Valid     bool             `json:"valid"`
	Variants  []summaryVariant `json:"variants"`
}

type summaryVariant struct {
	Name     string                     `json:"name"`
	Measures map[string]measure.Summary `json:"measures"`
}

// Write writes index.html, report.json, data.json (all of the result) and the
// series as csv/*.csv into dir, which is made when it is not there. A measure
// that is not a finite number is left out, as if it had not been measured.
func Write(dir string, r *Result) error {
	if err := r.check(); err != nil {
		return err
	}
	clean := finiteOnly(r)
	page, err := render(clean)
	if err != nil {
		return fmt.Errorf("report of %s: %w", r.Scenario, err)
	}
	short := summary{Scenario: clean.Scenario, Seed: clean.Seed, Commit: clean.Commit, Timelapse: clean.Timelapse, Valid: clean.Valid}
	for _, v := range clean.Variants {
		short.Variants = append(short.Variants, summaryVariant{v.Name, v.Measures})
	}
	files := map[string][]byte{pageFile: page}
	if files[summaryFile], err = encode(short, " "); err != nil {
		return fmt.Errorf("report of %s: %s: %w", r.Scenario, summaryFile, err)
	}
	if files[dataFile], err = encode(clean, ""); err != nil {
		return fmt.Errorf("report of %s: %s: %w", r.Scenario, dataFile, err)
	}
	for name, text := range tables(clean) {
		files[filepath.Join(csvDir, name)] = text
	}
	if err := os.MkdirAll(filepath.Join(dir, csvDir), 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes away what an earlier Write left in dir; the rest of dir stays.
func Remove(dir string) error {
	var errs []error
	for _, name := range []string{pageFile, summaryFile, dataFile, csvDir} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

func encode(value any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return b.Bytes(), err
}

// finiteOnly is a copy without what JSON cannot say. NaN is what a query gives
// for nothing divided by nothing.
func finiteOnly(r *Result) *Result {
	out := *r
	out.Variants = make([]Variant, len(r.Variants))
	for i, v := range r.Variants {
		measures := make(map[string]measure.Summary, len(v.Measures))
		for key, s := range v.Measures {
			if finite(s.Median) && finite(s.Low) && finite(s.High) {
				measures[key] = s
			}
		}
		v.Measures = measures
		if v.Recording != nil {
			v.Recording = finiteRecording(v.Recording)
		}
		out.Variants[i] = v
	}
	return &out
}

func finiteRecording(r *measure.Recording) *measure.Recording {
	out := *r
	out.Rate, out.Nodes = finiteSeries(r.Rate), finiteSeries(r.Nodes)
	out.HostCPU, out.HostStolen = finiteSeries(r.HostCPU), finiteSeries(r.HostStolen)
	out.Services = make([]measure.Service, len(r.Services))
	for i, s := range r.Services {
		for _, series := range []*measure.Series{&s.Offered, &s.Answered, &s.Refused, &s.Capacity, &s.Pressure,
			&s.Utilization, &s.Queue, &s.Calls, &s.Attempts, &s.Ready, &s.Desired} {
			*series = finiteSeries(*series)
		}
		zeroUnlessFinite(&s.CapacityOfOne, &s.LatenessP50, &s.ServiceTime)
		out.Services[i] = s
	}
	out.Edges = make([]measure.Edge, len(r.Edges))
	for i, e := range r.Edges {
		e.Calls = finiteSeries(e.Calls)
		out.Edges[i] = e
	}
	out.Load = slices.Clone(r.Load)
	for i := range out.Load {
		l := &out.Load[i]
		zeroUnlessFinite(&l.P50, &l.P99, &l.P999)
	}
	zeroUnlessFinite(&out.LagP99, &out.Whole.P50, &out.Whole.P99, &out.Whole.P999)
	return &out
}

// zeroUnlessFinite writes 0, which a recording uses for what was not recorded.
func zeroUnlessFinite(values ...*float64) {
	for _, v := range values {
		if !finite(*v) {
			*v = 0
		}
	}
}

func finiteSeries(s measure.Series) measure.Series {
	var out measure.Series
	for _, p := range s {
		if finite(p.T) && finite(p.V) {
			out = append(out, p)
		}
	}
	return out
}

// Read reads what Write has written into dir.
func Read(dir string) (*Result, error) {
	var r Result
	if err := readJSON(filepath.Join(dir, dataFile), &r); err != nil {
		return nil, err
	}
	return &r, r.check()
}

func readSummary(dir string) (*summary, error) {
	var s summary
	if err := readJSON(filepath.Join(dir, summaryFile), &s); err != nil {
		return nil, err
	}
	return &s, nil
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has no %s: give the directory that a run has written (spillway run --out DIR)",
			filepath.Dir(path), filepath.Base(path))
	}
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s is not what this version writes: %s; run the scenario again", path,
			strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

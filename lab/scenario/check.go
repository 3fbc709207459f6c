package scenario

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"spillway.dev/lab/load"
	"spillway.dev/lab/measure"
	"spillway.dev/lab/scenario/strict"
)

// check looks for what a schema cannot say, and builds the scenario meanwhile.
type check struct {
	doc      *strict.Document
	file     *file
	scenario *Scenario
}

// name is what scenarios and variants are called: on a command line, in a file's
// name, and before a dot in an answer.
var name = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

const nameForm = "use lower-case letters, digits and single hyphens, such as scale-out"

// journeys are the kinds that visits may be given for: what people come for, and
// last the mean of all.
var journeys = []string{load.Browse.String(), load.SeatMap.String(), load.Buy.String(), load.List.String(), measure.AnyJourney}

// priorities are what a journey may have.
var priorities = []string{load.Critical.String(), load.Standard.String(), load.Sheddable.String()}

// whole checks what stands once in the file.
func (c *check) whole() {
	s, doc := c.scenario, c.doc
	switch {
	case !doc.Has("scenario"):
		doc.Wrong("", "`scenario` is missing: the scenario's name, such as scale-out")
	case !name.MatchString(s.Name):
		doc.Wrong("scenario", "%q is no name for a scenario; %s", s.Name, nameForm)
	}
	if !doc.Has("question") {
		doc.Wrong("", "`question` is missing: what the scenario asks, in one sentence")
	}
	switch {
	case !doc.Has("duration"):
		doc.Wrong("", "`duration` is missing: how long load is offered, such as 5m")
	case s.Duration <= 0:
		doc.Wrong("duration", "duration is %s; give a time above 0, such as 5m", s.Duration)
	case s.Warmup < 0 || s.Warmup >= s.Duration:
		doc.Wrong("warmup", "warmup is %s; give 0 or more and less than the duration of %s", s.Warmup, s.Duration)
	}
	if s.StartUp < 0 || s.StartUp > mostStartUp {
		doc.Wrong("start-up", "start-up is %s; give 0 to %s", s.StartUp, mostStartUp)
	}
	if doc.Has("timelapse") && !(s.Timelapse >= 1 && s.Timelapse <= fastest) {
		doc.Wrong("timelapse", "timelapse is %v; give 1 (real time) to %d, or leave it out for a scenario that runs at any", s.Timelapse, fastest)
	}
	for service, visits := range s.Visits {
		for kind, n := range visits {
			path := fmt.Sprintf("visits.%s.%s", service, kind)
			if n < 0 {
				doc.Wrong(path, "%v visits are not possible; give 0 or more", n)
			}
			if !slices.Contains(journeys, kind) {
				doc.Wrong(path, "%s", strict.Unknown("there is no kind of journey called", kind, journeys))
			}
		}
	}
	if s.Cost == "" {
		return
	}
	if known := []string{"replica_seconds", "node_seconds"}; !slices.Contains(known, s.Cost) {
		doc.Wrong("cost", "%s", strict.Unknown("no measure of cost is called", s.Cost, known))
	}
}

func (c *check) variants() {
	if len(c.file.Variants) == 0 {
		c.doc.Wrong("variants", "`variants` is missing or empty; give at least one, each with a `name`")
	}
	for i := range c.scenario.Variants {
		path := fmt.Sprintf("variants[%d]", i)
		c.named(i, path)
		v := &c.scenario.Variants[i]
		c.plan(&v.Load, path)
		if v.Nodes != nil {
			c.doc.Blame(path+".nodes", v.Nodes.Validate())
		}
	}
}

// mostStartUp bounds the time that a replica takes to start: more is a slip.
const mostStartUp = 30 * time.Minute

// named checks the name of a variant.
func (c *check) named(i int, path string) {
	own := c.file.Variants[i]
	switch {
	case own.Name == "":
		c.doc.Wrong(path, "the variant has no `name`; %s", nameForm)
	case !name.MatchString(own.Name):
		c.doc.Wrong(path+".name", "%q is no name for a variant; %s", own.Name, nameForm)
	case slices.ContainsFunc(c.file.Variants[:i], func(v fileVariant) bool { return v.Name == own.Name }):
		c.doc.Wrong(path+".name", "two variants are called %q; give each a name of its own", own.Name)
	}
}

// plan checks the load of a variant, and completes it.
func (c *check) plan(plan *load.Plan, path string) {
	path += ".load"
	if !c.doc.Has(path) {
		c.doc.Wrong(path, "the variant has no load; give `load` here or for the whole scenario")
		return
	}
	if c.doc.Has(path + ".for") {
		c.doc.Wrong(path+".for", "leave `for` out: load is offered for the scenario's `duration`")
	}
	if err := plan.Resolve(filepath.Dir(c.scenario.Path)); err != nil {
		c.doc.Blame(path, err)
		return
	}
	plan.For = c.scenario.Duration
	if plan.For > 0 {
		c.doc.Blame(path, plan.Validate())
	}
}

// within checks a time at which something happens.
func (c *check) within(path string, at time.Duration) {
	if !c.doc.Has(path + ".at") {
		c.doc.Wrong(path, "`at` is missing: when, counted from the begin of the load")
	} else if at < 0 || at >= c.scenario.Duration && c.scenario.Duration > 0 {
		c.doc.Wrong(path+".at", "at is %s; give a time from 0 to before the scenario's end at %s", at, c.scenario.Duration)
	}
}

func (c *check) faults() {
	for i, f := range c.file.Faults {
		path := fmt.Sprintf("faults[%d]", i)
		c.within(path, f.At)
		kill := f.Fault.Kill != nil
		switch {
		case kill && c.doc.Has(path+".for"):
			c.doc.Wrong(path+".for", "a kill has no duration; leave `for` out")
		case f.For < 0 || f.For == 0 && c.doc.Has(path+".for"):
			c.doc.Wrong(path+".for", "for is %s; give a time above 0, or leave it out for a fault that lasts to the end", f.For)
		case f.At+f.For > c.scenario.Duration && c.scenario.Duration > 0:
			c.doc.Wrong(path+".for", "the fault ends at %s, after the scenario at %s; leave `for` out for a fault that lasts to the end", f.At+f.For, c.scenario.Duration)
		}
		if err := f.Fault.Validate(); err != nil {
			// "fault latency: delay 0s is not allowed": the kind is part of the path.
			kind, what, _ := strings.Cut(strings.TrimPrefix(err.Error(), "fault "), ": ")
			if c.doc.Has(path + "." + kind) {
				c.doc.Blame(path+"."+kind, errors.New(what))
			} else {
				c.doc.Wrong(path, "%v", err)
			}
		}
	}
}

// mostReplicas bounds what can be asked of a machine: more is a slip.
const mostReplicas = 100

func (c *check) scale() {
	for i, f := range c.file.Scale {
		path := fmt.Sprintf("scale[%d]", i)
		c.within(path, f.At)
		if f.Service == "" {
			c.doc.Wrong(path, "`service` is missing: which one is scaled")
		}
		if !c.doc.Has(path+".replicas") || f.Replicas < 0 || f.Replicas > mostReplicas {
			c.doc.Wrong(path+".replicas", "give `replicas`, from 0 to %d", mostReplicas)
		}
	}
}

// outcome checks what is to be made of the measures.
func (c *check) outcome() {
	variants := make([]string, 0, len(c.file.Variants))
	for _, v := range c.file.Variants {
		if v.Name != "" {
			variants = append(variants, v.Name)
		}
	}
	for i, e := range c.file.Expect {
		c.doc.Blame(fmt.Sprintf("expect[%d]", i), e.Validate(variants))
	}
	answer, err := ParseAnswer(c.file.Answer, variants)
	c.doc.Blame("answer", err)
	c.scenario.Answer = answer
}

// knownMeasure is an error for a measure that there is none of.
func knownMeasure(key string) error {
	if k, ok := measure.Lookup(key); ok {
		_, of, _ := strings.Cut(key, ".")
		switch {
		case k.Of == "PRIORITY" && !slices.Contains(priorities, of):
			return fmt.Errorf("measure %q: %s", key, strict.Unknown("there is no priority", of, priorities))
		case k.Of == "JOURNEY" && !slices.Contains(journeys[:len(journeys)-1], of):
			return fmt.Errorf("measure %q: %s", key, strict.Unknown("there is no journey", of, journeys[:len(journeys)-1]))
		}
		return nil
	}
	var known []string
	for _, k := range measure.Keys() {
		known = append(known, k.Name)
	}
	base, of, dotted := strings.Cut(key, ".")
	for _, k := range measure.Keys() {
		switch {
		case k.Name != base:
		case k.Of != "":
			return fmt.Errorf("measure %q needs a name after a dot: %s", key, k)
		case dotted:
			return fmt.Errorf("measure %q is of the whole mesh; leave %q out", base, "."+of)
		}
	}
	if near, ok := strict.Near(base, known); ok {
		return fmt.Errorf("measure %q is not known; did you mean %q?", key, near)
	}
	return fmt.Errorf("measure %q is not known; docs/measures.md lists them", key)
}

// mentions notes every service that the file names.
func (c *check) mentions() {
	note := func(path, service string) {
		if service != "" {
			c.scenario.mentions = append(c.scenario.mentions, mention{service, c.doc.At(path)})
		}
	}
	for service := range c.file.Knobs {
		note("knobs."+service, service)
	}
	for i, v := range c.file.Variants {
		for service := range v.Knobs {
			note(fmt.Sprintf("variants[%d].knobs.%s", i, service), service)
		}
	}
	for service := range c.file.Visits {
		note("visits."+service, service)
	}
	for i, f := range c.file.Scale {
		note(fmt.Sprintf("scale[%d].service", i), f.Service)
	}
	for i, f := range c.file.Faults {
		c.faultMentions(fmt.Sprintf("faults[%d]", i), reflect.ValueOf(f.Fault), note)
	}
	for i, e := range c.file.Expect {
		if key, ok := measure.Lookup(e.Measure); ok && key.Of == "SERVICE" {
			_, service, _ := strings.Cut(e.Measure, ".")
			note(fmt.Sprintf("expect[%d].measure", i), service)
		}
	}
}

// faultMentions finds the services of a fault: they stand under these keys in
// every kind.
func (c *check) faultMentions(path string, v reflect.Value, note func(path, service string)) {
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		field := v.Field(i)
		switch {
		case field.Kind() == reflect.Pointer && !field.IsNil() && field.Elem().Kind() == reflect.Struct:
			c.faultMentions(path+"."+key, field.Elem(), note)
		case field.Kind() == reflect.String && slices.Contains([]string{"service", "caller", "callee"}, key):
			note(path+"."+key, field.String())
		}
	}
}

package scenario

import (
	"errors"
	"slices"
	"time"

	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/fault"
	"spillway.dev/lab/load"
	"spillway.dev/lab/nodepool"
	"spillway.dev/lab/scenario/strict"
)

// Scenario is a question and how it is answered. Every time in its fields is
// scenario time since the load began, which a time-lapse divides.
type Scenario struct {
	// Name is short, lower-case and has no spaces.
	Name string
	// Question is what the scenario asks, Document the file that teaches it.
	Question, Document string
	// Duration is how long load is offered, Warmup the part of it at the
	// beginning that is not measured.
	Duration, Warmup time.Duration
	// StartUp is how long a replica that starts under load takes until it
	// serves, beyond what its process needs: an image that is pulled, a runtime
	// that warms up. Those of the beginning are there when the load begins.
	StartUp time.Duration
	// Timelapse is the time-lapse that durations in the file which none divides
	// were written for, such as those in a replica's environment; 0: the file has
	// none, and any will do. TimelapseFor decides.
	Timelapse float64
	// Visits is how many calls to a service a journey makes, by service and
	// kind of journey, or "any" for the mean journey. A service that is not in
	// it is measured in the warm-up.
	Visits map[string]map[string]float64
	// Variants are what is tried, in this order, each with everything it takes
	// from the scenario. There is at least one.
	Variants []Variant
	// Faults are what goes wrong in every variant, in order of At.
	Faults []TimedFault
	// Scale is what is scaled by hand in every variant, in order of At.
	Scale []Scaling
	// Expect are the rules that the measures are judged by.
	Expect []Expectation
	// Answer is one sentence with places for measures; Fill fills them.
	Answer Answer
	// Cost is the measure that the report plots missed deadlines against; empty
	// for no such plot.
	Cost string
	// Path is the file that it was read from.
	Path string

	mentions    []mention
	timelapseAt strict.Place
}

// Variant is one of the things that are tried.
type Variant struct {
	// Name is short, lower-case and has no spaces; Says is one sentence on what
	// is different.
	Name, Says string
	// Components and Patches change the manifests: the scenario's first, then
	// the variant's own.
	Components []string
	Patches    []manifest.Patch
	// Knobs are set from the beginning, by service and name.
	Knobs map[string]map[string]string
	// Nodes are what the mesh runs on; nil: one node without limits.
	Nodes *nodepool.Config
	// Load is what is offered, for the scenario's Duration. Seed and Timelapse
	// are left to whoever runs it.
	Load load.Plan
}

// TimedFault is a fault at a time.
type TimedFault struct {
	At time.Duration `yaml:"at"`
	// For is how long it lasts; 0: to the end of the run. A kill has no
	// duration.
	For   time.Duration `yaml:"for"`
	Fault fault.Fault   `yaml:",inline"`
}

// Scaling sets the replicas of a service by hand.
type Scaling struct {
	At       time.Duration `yaml:"at"`
	Service  string        `yaml:"service"`
	Replicas int           `yaml:"replicas"`
}

// ScaledByHand are the services that Scale names.
func (s *Scenario) ScaledByHand() map[string]bool {
	scaled := make(map[string]bool)
	for _, c := range s.Scale {
		scaled[c.Service] = true
	}
	return scaled
}

// Select is the variants of these names in the scenario's order; all of them
// when none is named. An unknown name is an error.
func (s *Scenario) Select(names []string) ([]Variant, error) {
	if len(names) == 0 {
		return slices.Clone(s.Variants), nil
	}
	known := s.names()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, errors.New(strict.Unknown("the scenario "+s.Name+" has no variant", name, known))
		}
	}
	return slices.DeleteFunc(slices.Clone(s.Variants), func(v Variant) bool { return !slices.Contains(names, v.Name) }), nil
}

func (s *Scenario) names() []string {
	names := make([]string, len(s.Variants))
	for i, v := range s.Variants {
		names[i] = v.Name
	}
	return names
}

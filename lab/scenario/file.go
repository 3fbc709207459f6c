package scenario

import (
	"time"

	"go.yaml.in/yaml/v3"

	"spillway.dev/lab/engine/manifest"
)

// file is what the YAML of a scenario may say. What load and nodes may say are
// load.Plan and nodepool.Config: they are decoded once for each variant, its own
// keys in place of the scenario's.
type file struct {
	Scenario   string                        `yaml:"scenario"`
	Question   string                        `yaml:"question"`
	Document   string                        `yaml:"document"`
	Duration   time.Duration                 `yaml:"duration"`
	Warmup     time.Duration                 `yaml:"warmup"`
	StartUp    time.Duration                 `yaml:"start-up"`
	Timelapse  float64                       `yaml:"timelapse"`
	Load       yaml.Node                     `yaml:"load"`
	Nodes      yaml.Node                     `yaml:"nodes"`
	Components []string                      `yaml:"components"`
	Patches    []manifest.Patch              `yaml:"patches"`
	Knobs      map[string]map[string]string  `yaml:"knobs"`
	Visits     map[string]map[string]float64 `yaml:"visits"`
	Variants   []fileVariant                 `yaml:"variants"`
	Faults     []TimedFault                  `yaml:"faults"`
	Scale      []Scaling                     `yaml:"scale"`
	Expect     []Expectation                 `yaml:"expect"`
	Answer     string                        `yaml:"answer"`
	Cost       string                        `yaml:"cost"`
}

type fileVariant struct {
	Name       string                       `yaml:"name"`
	Says       string                       `yaml:"says"`
	Components []string                     `yaml:"components"`
	Patches    []manifest.Patch             `yaml:"patches"`
	Knobs      map[string]map[string]string `yaml:"knobs"`
	Nodes      yaml.Node                    `yaml:"nodes"`
	Load       yaml.Node                    `yaml:"load"`
}

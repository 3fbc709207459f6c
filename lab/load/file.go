package load

import (
	"os"
	"path/filepath"

	"spillway.dev/lab/scenario/strict"
)

// ReadPlan reads a plan from a YAML file. Unknown keys and everything else that
// makes no sense are errors that name line and column; a CSV file of rates is
// looked for beside the plan.
func ReadPlan(path string) (Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Plan{}, err
	}
	file, err := strict.Parse(path, text)
	if err != nil {
		return Plan{}, err
	}
	var p Plan
	file.Decode(file.Root(), "", &p)
	if file.Err() == nil {
		if err := p.Resolve(filepath.Dir(path)); err != nil {
			file.Blame("", err)
		} else {
			file.Blame("", p.Validate())
		}
	}
	return p, file.Err()
}

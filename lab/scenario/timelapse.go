package scenario

import (
	"fmt"

	"spillway.dev/lab/scenario/strict"
)

// fastest is the largest time-lapse of a run.
const fastest = 100

// TimelapseFor is the time-lapse of a run for which one was asked; 0 stands for
// none. A scenario with a Timelapse of its own has that one, and any other is a
// *strict.Error: the durations that no time-lapse divides would be wrong. Without
// it is what was asked for, else 1.
func (s *Scenario) TimelapseFor(asked float64) (float64, error) {
	switch {
	case s.Timelapse == 0 && asked == 0:
		return 1, nil
	case s.Timelapse == 0:
		return asked, nil
	case asked == 0 || asked == s.Timelapse:
		return s.Timelapse, nil
	}
	return 0, &strict.Error{Place: s.timelapseAt, Text: fmt.Sprintf(
		"this scenario runs at a time-lapse of %v only, and %v was asked for: it sets durations that no time-lapse divides, such as a "+
			"drain or a start of a replica, and they were written for %[1]v; leave --timelapse out, or in a copy of the file change "+
			"those durations and `timelapse`", s.Timelapse, asked)}
}

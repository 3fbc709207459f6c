package scenario

import (
	"slices"

	"spillway.dev/lab/scenario/strict"
)

// mention is a place in the file that names a service.
type mention struct {
	service string
	place   strict.Place
}

// CheckServices looks for services that the file names and the mesh has not.
// The file cannot tell: the mesh is what the manifests say. The error is
// strict.Errors.
func (s *Scenario) CheckServices(known []string) error {
	var wrong strict.Errors
	for _, m := range s.mentions {
		if !slices.Contains(known, m.service) {
			wrong = append(wrong, &strict.Error{Place: m.place, Text: strict.Unknown("the mesh has no service", m.service, known)})
		}
	}
	return wrong.Sorted()
}

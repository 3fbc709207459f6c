package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// schema is the part of an OpenAPI v3 schema that a wrong manifest can break: which
// fields there are, which must be there, and of what type they are. What depends on
// several fields at once (oneOf and the like) is left to an API server.
type schema struct {
	Type            string             `json:"type"`
	Properties      map[string]*schema `json:"properties"`
	Additional      *schema            `json:"additionalProperties"`
	Items           *schema            `json:"items"`
	Required        []string           `json:"required"`
	Enum            []any              `json:"enum"`
	IntOrString     bool               `json:"x-kubernetes-int-or-string"`
	PreserveUnknown bool               `json:"x-kubernetes-preserve-unknown-fields"`
}

// schemas of the kinds that something installed adds, by apiVersion and kind.
type schemas map[string]*schema

// loadSchemas reads the schemas in a directory: each file has the schema of one
// version of a CustomResourceDefinition, and says where it is from.
func loadSchemas(dir string) (schemas, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	all := schemas{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var definition struct {
			APIVersion string  `json:"apiVersion"`
			Kind       string  `json:"kind"`
			Schema     *schema `json:"openAPIV3Schema"`
		}
		if err := json.Unmarshal(text, &definition); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if definition.Schema == nil || len(definition.Schema.Properties) == 0 {
			return nil, fmt.Errorf("%s has no schema", file)
		}
		all[definition.APIVersion+" "+definition.Kind] = definition.Schema
	}
	return all, nil
}

// check tells what is wrong with an object, or that there is no schema for it.
func (s schemas) check(object *unstructured.Unstructured) error {
	name := object.GetAPIVersion() + " " + object.GetKind()
	kind, known := s[name]
	if !known {
		return fmt.Errorf("%s %s: no schema of this kind is known", name, object.GetName())
	}
	// Through JSON: numbers are then of one type.
	text, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	if err := errors.Join(kind.wrong("", value)...); err != nil {
		return fmt.Errorf("%s %s: %w", name, object.GetName(), err)
	}
	return nil
}

func (s *schema) wrong(path string, value any) []error {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, value) {
		refuse("%v is not one of %v", value, s.Enum)
	}
	if s.IntOrString {
		switch value.(type) {
		case string, float64:
		default:
			refuse("%v is neither a number nor a string", value)
		}
		return errs
	}
	switch v := value.(type) {
	case map[string]any:
		if s.Type != "object" {
			refuse("it is an object, not of type %q", s.Type)
			return errs
		}
		for _, name := range s.Required {
			if _, given := v[name]; !given {
				refuse("%s is missing", name)
			}
		}
		for name, field := range v {
			below := path + "." + name
			switch {
			case path == "" && name == "metadata": // of Kubernetes' own type
			case s.Properties[name] != nil:
				errs = append(errs, s.Properties[name].wrong(below, field)...)
			case s.Additional != nil:
				errs = append(errs, s.Additional.wrong(below, field)...)
			case path == "" && (name == "apiVersion" || name == "kind"):
			case !s.PreserveUnknown:
				errs = append(errs, fmt.Errorf("unknown field %s", below))
			}
		}
	case []any:
		if s.Type != "array" || s.Items == nil {
			refuse("it is a list, not of type %q", s.Type)
			return errs
		}
		for i, item := range v {
			errs = append(errs, s.Items.wrong(fmt.Sprintf("%s[%d]", path, i), item)...)
		}
	case string:
		if s.Type != "string" {
			refuse("%q is not of type %q", v, s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			refuse("%v is not of type %q", v, s.Type)
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != float64(int64(v))) {
			refuse("%v is not of type %q", v, s.Type)
		}
	default:
		refuse("%v is of no type that a manifest has", v)
	}
	return errs
}

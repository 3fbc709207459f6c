package manifests

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func readSchemas(t *testing.T) schemas {
	t.Helper()
	all, err := loadSchemas("testdata/crds")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there are no schemas in testdata/crds")
	}
	return all
}

func TestSchemasRefuse(t *testing.T) {
	all := readSchemas(t)
	const scaled = `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: a}
spec:
  scaleTargetRef: {name: a}
  triggers: [{type: prometheus, metadata: {threshold: "1"}}]
`
	for _, test := range []struct{ name, before, after, want string }{
		{"nothing", "", "", ""},
		{"an unknown field", "scaleTargetRef: {", "scaleTargetRef: {kindd: x, ", "unknown field .spec.scaleTargetRef.kindd"},
		{"a missing field", "type: prometheus, ", "", "type is missing"},
		{"a number for a string", `"1"`, "1", `.spec.triggers[0].metadata.threshold: 1 is not of type "string"`},
		{"a string for a number", "  triggers", "  maxReplicaCount: many\n  triggers", `"many" is not of type "integer"`},
		{"a kind that nobody knows", "ScaledObject", "ScaledThing", "no schema"},
	} {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(strings.Replace(scaled, test.before, test.after, 1)), &object.Object); err != nil {
			t.Fatal(err)
		}
		err := all.check(object)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

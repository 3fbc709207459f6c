package mesh

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// The example of the documentation is read as it is meant, and written again it is the same.
func TestControlsTravel(t *testing.T) {
	got, err := ParseControls([]byte(`{
	  "faults": {"catalog": [{"caller": "gateway", "delay": 200000000, "delayShare": 0.5}],
	             "payment": [{"abortCode": 14, "abortShare": 0.1}]},
	  "knobs": {"bank": {"capacity.slowdown": "4"}},
	  "endpoints": {"delay": 3000000000}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Controls{
		Faults: map[string][]Fault{
			"catalog": {{Caller: "gateway", Delay: 200 * time.Millisecond, DelayShare: 0.5}},
			"payment": {{AbortCode: codes.Unavailable, AbortShare: 0.1}},
		},
		Knobs:     map[string]map[string]string{"bank": {"capacity.slowdown": "4"}},
		Endpoints: EndpointNews{Delay: 3 * time.Second},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	document, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseControls(document); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("%s is read as %+v, %v", document, again, err)
	}
	if nothing, err := json.Marshal(Controls{}); err != nil || string(nothing) != "{}" {
		t.Errorf("no controls are %s, %v", nothing, err)
	}
	if empty, err := ParseControls([]byte(" \n")); err != nil || !reflect.DeepEqual(empty, Controls{}) {
		t.Errorf("an empty document is %+v, %v", empty, err)
	}
}

func TestControlsAreChecked(t *testing.T) {
	for document, want := range map[string]string{
		`{"fault": {}}`:                            `unknown field "fault"`,
		`{} {}`:                                    "more than one JSON document",
		`{"faults": {"": [{}]}}`:                   "faults of a service without a name",
		`{"faults": {"a": [{"delay": "1s"}]}}`:     "cannot unmarshal string",
		`{"faults": {"a": [{"delay": -1}]}}`:       `service "a": fault: delay -1ns is not allowed`,
		`{"faults": {"a": [{"abortShare": 0.1}]}}`: "without a code",
		`{"knobs": {"a": {"": "1"}}}`:              "a name is missing",
		`{"endpoints": {"delay": -1}}`:             "endpoints: delay -1ns is not allowed",
		`{"endpoints": {"late": 1}}`:               `unknown field "late"`,
	} {
		if _, err := ParseControls([]byte(document)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", document, err, want)
		}
	}
}

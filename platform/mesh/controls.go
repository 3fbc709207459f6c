package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Where a cluster keeps the Controls of its mesh: a ConfigMap of this name, in the namespace of the mesh, with the
// document under this key. A ConfigMap that is not there, or has no such key, is no controls at all.
const (
	ControlsName = "mesh-controls"
	ControlsKey  = "controls.json"
)

// Controls is what people and experiments do to a mesh in a cluster: faults, knobs, and a slow way for news of
// endpoints. It is one JSON document that every replica of the control plane reads, so that all of them agree and a
// new one takes over what holds:
//
//	{
//	  "faults": {"catalog": [{"caller": "gateway", "delay": 200000000, "delayShare": 0.5}],
//	             "payment": [{"abortCode": 14, "abortShare": 0.1}]},
//	  "knobs": {"bank": {"capacity.slowdown": "4"}},
//	  "endpoints": {"delay": 3000000000}
//	}
//
// Durations are nanoseconds and codes are gRPC's numbers, as in State. The zero value does nothing.
type Controls struct {
	// Faults are injected into calls to a service, by its name. Those of a service that the mesh does not have wait for it.
	Faults map[string][]Fault `json:"faults,omitempty"`
	// Knobs are the values that are set, as State.Knobs has them.
	Knobs map[string]map[string]string `json:"knobs,omitempty"`
	// Endpoints is how news of endpoints travel.
	Endpoints EndpointNews `json:"endpoints,omitzero"`
}

// EndpointNews is how the control plane learns of endpoints that come and go. The zero value is at once.
type EndpointNews struct {
	// Delay is how late it learns of them.
	Delay time.Duration `json:"delay,omitempty"`
	// Drop has it learn nothing until it is false again; then it learns of the latest.
	Drop bool `json:"drop,omitempty"`
}

// ParseControls reads a document. A key that the format does not have is an error, as is all that Validate finds. An
// empty document is no controls.
func ParseControls(document []byte) (Controls, error) {
	if len(bytes.TrimSpace(document)) == 0 {
		return Controls{}, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	var controls Controls
	if err := decoder.Decode(&controls); err != nil {
		return Controls{}, fmt.Errorf("mesh: controls: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Controls{}, errors.New("mesh: controls: more than one JSON document, give one")
	}
	return controls, controls.Validate()
}

// Validate tells what is wrong with the controls, and what is allowed. It does not know which services there are.
func (c Controls) Validate() error {
	for service, faults := range c.Faults {
		if service == "" {
			return errors.New("mesh: controls: faults of a service without a name, give the service that is called")
		}
		for _, fault := range faults {
			if err := fault.validate(); err != nil {
				return fmt.Errorf("mesh: controls: service %q: %w", service, err)
			}
		}
	}
	if err := checkKnobs(c.Knobs); err != nil {
		return fmt.Errorf("mesh: controls: %w", err)
	}
	if c.Endpoints.Delay < 0 {
		return fmt.Errorf("mesh: controls: endpoints: delay %v is not allowed, give 0s or more", c.Endpoints.Delay)
	}
	return nil
}

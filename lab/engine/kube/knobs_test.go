package kube

import (
	"testing"

	"google.golang.org/protobuf/proto"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

func TestKnobsAreThoseThatAnyReplicaOfTheControlPlaneKnows(t *testing.T) {
	knob := func(name, value string) *knobv1.KnobState {
		return &knobv1.KnobState{Knob: &knobv1.Knob{Name: name}, Value: value}
	}
	service := func(name string, knobs ...*knobv1.KnobState) *knobv1.ServiceKnobs {
		return &knobv1.ServiceKnobs{Service: name, Knobs: knobs}
	}
	got := merged([]*knobv1.ListKnobsResponse{
		{Services: []*knobv1.ServiceKnobs{service("order", knob("b", ""), knob("d", "1"))}},
		{},
		{Services: []*knobv1.ServiceKnobs{service("bank", knob("a", "")), service("order", knob("a", ""), knob("b", "2"), knob("d", "1"))}},
	})
	want := &knobv1.ListKnobsResponse{Services: []*knobv1.ServiceKnobs{
		service("bank", knob("a", "")), service("order", knob("a", ""), knob("b", "2"), knob("d", "1")),
	}}
	if !proto.Equal(got, want) {
		t.Errorf("merged %v, want %v", got, want)
	}
}

package experiment

import (
	"slices"
	"testing"
	"time"

	"spillway.dev/lab/fault"
	"spillway.dev/lab/measure"
	"spillway.dev/lab/scenario"
)

func TestPlan(t *testing.T) {
	slow := fault.Fault{SlowDown: &fault.SlowDown{Service: "inventory", Factor: 3}}
	kill := fault.Fault{Kill: &fault.Replicas{Service: "order", Replicas: 1}}
	s := &scenario.Scenario{
		Duration: 10 * time.Minute,
		Faults: []scenario.TimedFault{
			{At: time.Minute, For: 30 * time.Second, Fault: slow},
			{At: 5 * time.Minute, Fault: kill},
			{At: 6 * time.Minute, Fault: slow}, // to the end
		},
		Scale: []scenario.Scaling{{At: 2 * time.Minute, Service: "catalog", Replicas: 5}},
	}
	line := plan(s, 10)
	want := []measure.Window{
		{From: 60, To: 90, Text: slow.String()}, {From: 300, To: 300, Text: kill.String()}, {From: 360, To: 600, Text: slow.String()},
	}
	if !slices.Equal(line.faults, want) {
		t.Errorf("faults %+v, want %+v", line.faults, want)
	}
	var at []time.Duration
	for _, step := range line.steps {
		at = append(at, step.at)
	}
	if want := []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 6 * time.Minute}; !slices.Equal(at, want) {
		t.Errorf("steps at %v, want %v", at, want)
	}
	if a := line.actions; len(a) != 1 || a[0].T != 120 || a[0].Service != "catalog" || a[0].To != 5 {
		t.Errorf("scaling by hand: %+v", a)
	}
}

func TestAShortFaultIsScrapedMoreOften(t *testing.T) {
	for want, lengths := range map[time.Duration][]time.Duration{
		0:                       {0, 40 * time.Second},
		2500 * time.Millisecond: {time.Minute, 10 * time.Second, 0},
		time.Second:             {time.Second},
	} {
		var faults []scenario.TimedFault
		for _, d := range lengths {
			faults = append(faults, scenario.TimedFault{For: d})
		}
		if got := scrapes(faults); got != want {
			t.Errorf("faults of %v: a scrape every %v, want %v", lengths, got, want)
		}
	}
}

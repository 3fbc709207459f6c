package experiment

import (
	"slices"
	"testing"
	"time"

	"spillway.dev/lab/autoscaler"
	"spillway.dev/lab/load"
	"spillway.dev/lab/measure"
)

// TestOffered takes over three real seconds of load in tenfold time-lapse, of a
// scenario that ends in the middle of the third.
func TestOffered(t *testing.T) {
	record := &load.Record{Seconds: []load.Second{
		{Second: 0, Counts: load.Counts{Offered: 4, Good: 4}},
		{Second: 1, Counts: load.Counts{Offered: 9, Good: 5, Shed: 1, Errors: map[string]int64{"DEPENDENCY_AWAY": 3}}, Unanswered: 2},
		{Second: 2, Counts: load.Counts{Offered: 1, Errors: map[string]int64{load.NoAnswer: 1}}, Unanswered: 1},
		{Second: 3, Counts: load.Counts{Offered: 1, Good: 1}},
	}}
	r := &measure.Recording{Timelapse: 10, Warmup: 10, Duration: 25}
	if err := offered(r, record); err != nil {
		t.Fatal(err)
	}
	if len(r.Load) != 3 {
		t.Fatalf("%d buckets, want 3: %+v", len(r.Load), r.Load)
	}
	if b := r.Load[1]; b.T != 10 || b.Dur != 10 || b.Offered != 9 || b.Good != 5 || b.Shed != 1 || b.Errors["DEPENDENCY_AWAY"] != 3 {
		t.Errorf("the second bucket: %+v", b)
	}
	if b := r.Load[2]; b.T != 20 || b.Dur != 5 {
		t.Errorf("the last bucket: %+v", b)
	}
	// What nobody answered is lost; a service that says that its store is away
	// has answered.
	if r.Lost == nil || *r.Lost != 3 {
		t.Errorf("lost %v, want 3", r.Lost)
	}
}

func TestWarnings(t *testing.T) {
	begin := time.Unix(1000, 0)
	event := func(at float64, kind, name, reason, message string) autoscaler.Event {
		return autoscaler.Event{At: begin.Add(time.Duration(at * float64(time.Second))), Type: kind, Name: name, Reason: reason, Message: message}
	}
	got := warnings([]autoscaler.Event{
		event(-1, "Warning", "order", "FailedGetResourceMetric", "before the load"),
		event(1, "Warning", "order", "FailedGetResourceMetric", "first"),
		event(2, "Normal", "order", "SuccessfulRescale", "no warning"),
		event(2, "Warning", "session", "FailedGetResourceMetric", "another"),
		event(3, "Warning", "order", "FailedGetResourceMetric", "last"),
		event(99, "Warning", "order", "FailedGetResourceMetric", "after the load"),
	}, begin, 10, 100)
	want := []measure.Warning{
		{Service: "order", Reason: "FailedGetResourceMetric", Message: "last", Count: 2, First: 10, Last: 30},
		{Service: "session", Reason: "FailedGetResourceMetric", Message: "another", Count: 1, First: 20, Last: 20},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

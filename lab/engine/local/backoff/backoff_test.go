package backoff

import (
	"slices"
	"testing"
	"time"
)

func TestCrash(t *testing.T) {
	var c Crash
	now := time.Unix(0, 0)
	var got []time.Duration
	for range 9 {
		wait := c.Next(now)
		got = append(got, wait)
		now = now.Add(wait + time.Second)
	}
	ms := time.Millisecond
	want := []time.Duration{0, 250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 10000 * ms, 10000 * ms}
	if !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
	if wait := c.Next(now.Add(21 * time.Second)); wait != 0 {
		t.Errorf("after a long good run it waits %s", wait)
	}
}

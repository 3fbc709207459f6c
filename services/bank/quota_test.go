package main

import (
	"testing"
	"time"
)

func TestQuotaLetsInBurstThenRate(t *testing.T) {
	q, now := newQuota(10), time.Unix(1000, 0)
	for i := range 10 {
		if _, ok := q.admit(now); !ok {
			t.Fatalf("call %d of the burst refused", i+1)
		}
	}
	wait, ok := q.admit(now)
	if ok || wait != 100*time.Millisecond {
		t.Fatalf("call above the burst: admitted %v, wait %v; want refused, 100ms", ok, wait)
	}
	if _, ok := q.admit(now.Add(wait - 1)); ok {
		t.Error("admitted before the time that was told")
	}
	if _, ok := q.admit(now.Add(wait)); !ok {
		t.Error("refused after the time that was told")
	}
}

// Over a long time exactly the rate is let in, however hard callers press, and
// a clock that steps back does not open the gate.
func TestQuotaOverTime(t *testing.T) {
	q, start := newQuota(50), time.Unix(1000, 0)
	admitted := 0
	for ms := range 10_000 {
		for range 3 {
			if _, ok := q.admit(start.Add(time.Duration(ms) * time.Millisecond)); ok {
				admitted++
			}
		}
	}
	if want := 50 + 10*50; admitted < want-1 || admitted > want {
		t.Errorf("admitted %d in 10 s at 50 a second, want %d: the burst and the rate", admitted, want)
	}
	if _, ok := q.admit(start); ok {
		t.Error("a step back of the clock let a call in")
	}
}

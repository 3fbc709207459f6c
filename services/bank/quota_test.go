package main

import (
	"testing"
	"time"
)

func TestQuotaLetsInBurstThenRate(t *testing.T) {
	now := time.Unix(1000, 0)
	q := newQuota(10, now)
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
	start := time.Unix(1000, 0)
	q := newQuota(50, start)
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

// A bank that lowers its quota is as used up as it was, in its own new measure, and keeps to the new rate at once.
func TestQuotaChangesWhileItIsUsed(t *testing.T) {
	now := time.Unix(1000, 0)
	q := newQuota(100, now)
	admitted := func(at time.Time) (n int) {
		for {
			if _, ok := q.admit(at); !ok {
				return n
			}
			n++
		}
	}
	for range 50 {
		if _, ok := q.admit(now); !ok {
			t.Fatal("a call of the first half of the burst was refused")
		}
	}
	q.set(10)
	if n := admitted(now); n != 5 {
		t.Errorf("half used up at 100 a second, %d more calls come in at 10 a second, want 5", n)
	}
	if n := admitted(now.Add(500 * time.Millisecond)); n != 5 {
		t.Errorf("half a second later %d calls come in at 10 a second, want 5", n)
	}
	q.set(1000)
	if n := admitted(now.Add(600 * time.Millisecond)); n != 100 {
		t.Errorf("a tenth of a second later %d calls come in at 1000 a second, want 100", n)
	}
}

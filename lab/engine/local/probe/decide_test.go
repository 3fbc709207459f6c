package probe

import (
	"testing"
	"time"
)

// second has the timing of a probe that asks every second.
func second(initialDelay time.Duration, success, failure int) Timing {
	return Timing{InitialDelay: initialDelay, Period: time.Second, Timeout: time.Second, Success: success, Failure: failure}
}

// drive asks whenever the machine wants to be asked, until a time. The container
// answers yes while up says so.
func drive(m *Machine, start time.Time, until time.Duration, up func(at time.Duration) bool) (verdicts map[Verdict]time.Duration, asked int) {
	verdicts = map[Verdict]time.Duration{}
	last := m.Verdict()
	for m.Next().Sub(start) <= until {
		at := m.Next()
		asked++
		if v := m.Observe(at, up(at.Sub(start))); v != last {
			last = v
			verdicts[v] = at.Sub(start)
		}
	}
	return verdicts, asked
}

func TestReadyIsSeenWithinMoments(t *testing.T) {
	start := time.Unix(0, 0)
	for _, serves := range []time.Duration{0, 15 * time.Millisecond, 990 * time.Millisecond, 1500 * time.Millisecond, 7 * time.Second} {
		m := NewMachine(second(0, 1, 30), Undecided, start)
		seen, _ := drive(m, start, 10*time.Second, func(at time.Duration) bool { return at >= serves })
		at, ok := seen[Passing]
		if late := at - serves; !ok || late < 0 || late > eagerSlow {
			t.Errorf("it serves after %s: seen after %s (%v)", serves, at, ok)
		}
	}
}

func TestEagerQuestionsAreNoFailures(t *testing.T) {
	start := time.Unix(0, 0)
	m := NewMachine(second(0, 1, 3), Undecided, start)
	seen, asked := drive(m, start, 3*time.Second, func(time.Duration) bool { return false })
	// Three failures, one a second: at 0, 1 and 2 s.
	if seen[Failing] != 2*time.Second {
		t.Errorf("failing after %s, want 2s", seen[Failing])
	}
	if asked < 50 {
		t.Errorf("asked %d times only", asked)
	}
}

func TestReadyReplicaIsAskedOncePerPeriod(t *testing.T) {
	start := time.Unix(0, 0)
	m := NewMachine(second(0, 1, 2), Undecided, start)
	down := 10500 * time.Millisecond
	seen, asked := drive(m, start, 12*time.Second, func(at time.Duration) bool { return at < down })
	if asked != 13 {
		t.Errorf("asked %d times in 12 s, want 13", asked)
	}
	if seen[Failing] != 12*time.Second {
		t.Errorf("failing after %s: want two periods after it went down", seen[Failing])
	}
}

func TestInitialDelayHolds(t *testing.T) {
	start := time.Unix(0, 0)
	m := NewMachine(second(5*time.Second, 1, 1), Undecided, start)
	if m.Next() != start.Add(5*time.Second) {
		t.Errorf("first question at %s", m.Next().Sub(start))
	}
}

func TestLivenessPassesUntilItFailed(t *testing.T) {
	start := time.Unix(0, 0)
	m := NewMachine(second(0, 1, 3), Passing, start)
	seen, asked := drive(m, start, 2*time.Second, func(time.Duration) bool { return false })
	if seen[Failing] != 2*time.Second || asked != 3 {
		t.Errorf("failing after %s and %d questions, want 2s and 3", seen[Failing], asked)
	}
}

func TestOneSuccessForgivesFailures(t *testing.T) {
	start := time.Unix(0, 0)
	m := NewMachine(second(0, 1, 2), Passing, start)
	seen, _ := drive(m, start, 20*time.Second, func(at time.Duration) bool { return at%(2*time.Second) == 0 })
	if at, failed := seen[Failing]; failed {
		t.Errorf("failing after %s though every second answer is good", at)
	}
}

func TestSuccessesInARowTakeTheirPeriods(t *testing.T) {
	start := time.Unix(0, 0)
	m := NewMachine(second(0, 3, 1), Undecided, start)
	seen, asked := drive(m, start, 2*time.Second, func(time.Duration) bool { return true })
	if seen[Passing] != 2*time.Second || asked != 3 {
		t.Errorf("passing after %s and %d questions, want 2s and 3", seen[Passing], asked)
	}
}

func TestBackToReadyWithinMoments(t *testing.T) {
	start := time.Unix(0, 0)
	m := NewMachine(second(0, 1, 1), Undecided, start)
	seen, _ := drive(m, start, 10*time.Second, func(at time.Duration) bool { return at < 2*time.Second || at > 3210*time.Millisecond })
	if late := seen[Passing] - 3210*time.Millisecond; late < 0 || late > eagerSlow {
		t.Errorf("ready again after %s", seen[Passing])
	}
}

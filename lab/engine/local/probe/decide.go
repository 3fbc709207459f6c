// Package probe asks a container how it is and decides what the answers mean, as
// the kubelet does.
package probe

import "time"

// A container that is waited for is asked more often than its probe's period, so
// that it takes traffic as soon as it can: every eagerFast at first, every
// eagerSlow once it has let people wait for eagerFor. Only success counts then;
// failures count once a period, as always.
const (
	eagerFast = 20 * time.Millisecond
	eagerSlow = 100 * time.Millisecond
	eagerFor  = 2 * time.Second
)

// Timing is when a probe asks and how many answers in a row change its verdict.
type Timing struct {
	InitialDelay, Period, Timeout time.Duration
	Success, Failure              int
}

// Verdict is what a probe makes of the answers so far.
type Verdict int

// A probe is Undecided until enough answers agree.
const (
	Undecided Verdict = iota
	Passing
	Failing
)

// Machine is the decision of one probe of one container. It reads no clock.
type Machine struct {
	timing  Timing
	verdict Verdict
	// streak is how many answers in a row were like the last that counted.
	streak int
	last   bool

	asked   time.Time // the latest question
	due     time.Time // when the next answer of any kind counts
	waiting time.Time // since when success is waited for
}

// NewMachine returns the decision of a probe whose container started at started.
// verdict is what holds until enough answers say otherwise: Passing for
// liveness, Undecided for the others.
func NewMachine(t Timing, verdict Verdict, started time.Time) *Machine {
	first := started.Add(t.InitialDelay)
	return &Machine{timing: t, verdict: verdict, due: first, waiting: first}
}

// Verdict is the present verdict.
func (m *Machine) Verdict() Verdict { return m.verdict }

// Next is when to ask next.
func (m *Machine) Next() time.Time {
	if !m.eager() || m.asked.IsZero() {
		return m.due
	}
	pause := eagerFast
	if m.asked.Sub(m.waiting) >= eagerFor {
		pause = eagerSlow
	}
	if soon := m.asked.Add(pause); soon.Before(m.due) {
		return soon
	}
	return m.due
}

// Observe takes the answer to a question that was asked at a time, and returns
// the verdict.
func (m *Machine) Observe(asked time.Time, ok bool) Verdict {
	m.asked = asked
	counts := !asked.Before(m.due)
	if counts {
		m.due = asked.Add(m.timing.Period)
	}
	if !counts && !(ok && m.eager()) {
		return m.verdict
	}
	if ok != m.last || m.streak == 0 {
		m.last, m.streak = ok, 0
	}
	m.streak++
	switch {
	case ok && m.streak >= m.timing.Success:
		m.verdict = Passing
		if !counts {
			m.due = asked.Add(m.timing.Period)
		}
	case !ok && m.streak >= m.timing.Failure:
		if m.verdict != Failing {
			m.waiting = asked
		}
		m.verdict = Failing
	}
	return m.verdict
}

// eager is whether one success is waited for. Where several in a row are asked
// for they are a matter of time, and the period holds.
func (m *Machine) eager() bool { return m.verdict != Passing && m.timing.Success <= 1 }

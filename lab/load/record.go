package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histograms hold microseconds from 1 to this, with three significant digits.
// What is longer counts as this long; no journey outlives its deadline by much.
const longest = int64(2 * time.Minute / time.Microsecond)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, 3) }

func observe(h *hdrhistogram.Histogram, d time.Duration) {
	// The bounds are kept, so there is no error to lose.
	_ = h.RecordValue(min(max(d.Microseconds(), 1), longest))
}

// record collects what came of the journeys. Safe for concurrent use.
type record struct {
	mu       sync.Mutex
	lag      *hdrhistogram.Histogram
	latency  [kinds]*hdrhistogram.Histogram // of journeys that were answered: good and refused
	offered  int
	good     [kinds]int
	refused  map[string]int
	errors   map[string]int
	late     int // good answers after the deadline: not goodput
	inFlight int

	second struct { // since the last tick
		offered, good, refused, errors int
		lag, latency                   *hdrhistogram.Histogram
	}
}

func newRecord() *record {
	r := &record{lag: newHistogram(), refused: make(map[string]int), errors: make(map[string]int)}
	for k := range r.latency {
		r.latency[k] = newHistogram()
	}
	r.second.lag, r.second.latency = newHistogram(), newHistogram()
	return r
}

// begin notes that a journey began, lag after it was meant to.
func (r *record) begin(lag time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offered++
	r.second.offered++
	r.inFlight++
	observe(r.lag, lag)
	observe(r.second.lag, lag)
}

// end notes what came of it, latency after it was meant to begin.
func (r *record) end(k Kind, latency, deadline time.Duration, err error) {
	v, reason := judge(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	if v == failed {
		r.errors[reason]++
		r.second.errors++
		return
	}
	observe(r.latency[k], latency)
	observe(r.second.latency, latency)
	switch {
	case v == refused:
		r.refused[reason]++
		r.second.refused++
	case latency > deadline:
		r.late++
	default:
		r.good[k]++
		r.second.good++
	}
}

// Tick is one line of progress: what happened since the last one.
type Tick struct {
	// Elapsed is the time since the load began.
	Elapsed time.Duration
	// Offered, Good, Refused and Errors count journeys since the last tick.
	Offered, Good, Refused, Errors int
	// InFlight is how many journeys are under way.
	InFlight int
	// LatencyP99 is of the journeys answered since the last tick, LagP99 of
	// those begun.
	LatencyP99, LagP99 time.Duration
}

func (r *record) tick(elapsed time.Duration) Tick {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.second
	t := Tick{
		Elapsed: elapsed, Offered: s.offered, Good: s.good, Refused: s.refused, Errors: s.errors, InFlight: r.inFlight,
		LatencyP99: quantile(s.latency, 99), LagP99: quantile(s.lag, 99),
	}
	s.offered, s.good, s.refused, s.errors = 0, 0, 0, 0
	s.lag.Reset()
	s.latency.Reset()
	return t
}

func quantile(h *hdrhistogram.Histogram, percent float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(percent)) * time.Microsecond
}

package load

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Record is what came of a run, whole and second by second.
type Record struct {
	// Begin is when the load began.
	Begin time.Time `json:"begin"`
	// Plan is what was asked for, with everything said that it left out.
	Plan Plan `json:"plan"`
	// Report is of the whole run.
	Report
	// Seconds are in order and without gaps from 0 on.
	Seconds []Second `json:"seconds"`
}

// Second is a real second of the load. A journey belongs to the second in which
// it was meant to begin, whenever it ended: so each second adds up by itself,
// Offered = Good + Late + Refused + Shed + all Errors.
type Second struct {
	// Second counts real seconds since the load began, from 0 on.
	Second int `json:"second"`
	Counts
	ByPriority map[string]Counts `json:"by_priority,omitempty"`
	ByJourney  map[string]Counts `json:"by_journey,omitempty"`
	// RefusedBy and ShedBy have the reasons of Refused and Shed.
	RefusedBy map[string]int64 `json:"refused_by,omitempty"`
	ShedBy    map[string]int64 `json:"shed_by,omitempty"`
	// Unanswered is how many of the Errors were journeys that nobody answered: a
	// replica or a connection went away under them.
	Unanswered int64 `json:"unanswered,omitempty"`
	// SessionsLost is how often a person's session was not known any more.
	SessionsLost int64 `json:"sessions_lost,omitempty"`
	// Latency is of journeys that were answered: good, late and refused. Lag is
	// how much later than intended journeys began.
	Latency Latency `json:"latency_ms"`
	Lag     Latency `json:"lag_ms"`
	// Histogram has the latencies in microseconds as HdrHistogram's compressed
	// V2 encoding in base64; empty when there are none. Quantiles over several
	// seconds are had from their sum: see Record.Between.
	Histogram string `json:"histogram,omitempty"`
	// LagHistogram has the lags likewise: see Record.LagBetween.
	LagHistogram string `json:"lag_histogram,omitempty"`
}

// Counts is what became of journeys. Each that was offered ends in exactly one
// of Good, Late, Refused, Shed and the Errors.
type Counts struct {
	// Offered journeys were meant to begin.
	Offered int64 `json:"offered"`
	// Good ones were served within their deadline: goodput.
	Good int64 `json:"good"`
	// Late ones were served after it.
	Late int64 `json:"late"`
	// Refused ones met a rule of the business: correct answers, but no goodput.
	Refused int64 `json:"refused"`
	// Shed ones were refused on purpose, to protect the mesh.
	Shed int64 `json:"shed"`
	// Errors counts the others by reason.
	Errors map[string]int64 `json:"errors,omitempty"`
}

// Failed is the sum of Errors.
func (c Counts) Failed() int64 { return sum(c.Errors) }

func (c *Counts) add(o outcome, reason string) {
	switch o {
	case good:
		c.Good++
	case late:
		c.Late++
	case refused:
		c.Refused++
	case shed:
		c.Shed++
	default:
		count(&c.Errors, reason)
	}
}

// count adds one to a map that may not be there yet.
func count(by *map[string]int64, reason string) {
	if *by == nil {
		*by = make(map[string]int64)
	}
	(*by)[reason]++
}

// Between is the latency of the answered journeys that were meant to begin in
// [from, to), in whole real seconds since the load began.
func (r *Record) Between(from, to time.Duration) (Latency, error) {
	return r.sum(from, to, func(s *Second) string { return s.Histogram })
}

// LagBetween is how much later than intended the journeys began that were meant to
// begin in [from, to), in whole real seconds since the load began.
func (r *Record) LagBetween(from, to time.Duration) (Latency, error) {
	return r.sum(from, to, func(s *Second) string { return s.LagHistogram })
}

// sum adds up one histogram of the seconds in [from, to).
func (r *Record) sum(from, to time.Duration, of func(*Second) string) (Latency, error) {
	total := newHistogram()
	for i := range r.Seconds {
		s := &r.Seconds[i]
		if begin := time.Duration(s.Second) * time.Second; of(s) == "" || begin < from || begin >= to {
			continue
		}
		h, err := hdrhistogram.Decode([]byte(of(s)))
		if err != nil {
			return Latency{}, fmt.Errorf("histogram of second %d: %w", s.Second, err)
		}
		total.Merge(h)
	}
	return summarise(total), nil
}

// Histograms hold microseconds from 1 to this, with three significant digits.
// What is longer counts as this long; no journey outlives its deadline by much.
const longest = int64(2 * time.Minute / time.Microsecond)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, 3) }

// micros is d in microseconds within the bounds of a histogram.
func micros(d time.Duration) int32 {
	return int32(min(max(d.Microseconds(), 1), min(longest, math.MaxInt32)))
}

func observe(h *hdrhistogram.Histogram, us int32) {
	_ = h.RecordValue(int64(us)) // micros keeps the bounds, so there is no error to lose
}

func encode(h *hdrhistogram.Histogram) string {
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil { // compressing to memory
		return ""
	}
	return string(text)
}

// recorder collects what comes of the journeys. Safe for concurrent use. What
// it does under its lock is short, because the lock is on the way of a journey
// that is about to begin: the values of a second are kept raw until the end, 8
// bytes a journey, and only then sorted into histograms.
type recorder struct {
	mu       sync.Mutex
	over     bool     // what ends now was counted as NoAnswer
	notes    []*notes // by second
	total    Counts   // all seconds together
	refused  map[string]int64
	shed     map[string]int64
	journeys [kinds]Counts
	levels   [priorities]Counts

	lag      *hdrhistogram.Histogram
	latency  [kinds]*hdrhistogram.Histogram // of journeys that were answered
	inFlight int

	tick struct { // since the last tick, by when things happened
		Counts
		lag, latency *hdrhistogram.Histogram
	}
}

// notes is one second.
type notes struct {
	Second
	open         [kinds][priorities]int
	journeys     [kinds]Counts
	levels       [priorities]Counts
	lag, latency []int32
}

func newRecorder() *recorder {
	r := &recorder{lag: newHistogram()}
	for k := range r.latency {
		r.latency[k] = newHistogram()
	}
	r.tick.lag, r.tick.latency = newHistogram(), newHistogram()
	return r
}

func secondOf(a Arrival) int { return int(a.At / time.Second) }

// dispatch notes that a journey is due. Only the dispatcher calls it, in order.
func (r *recorder) dispatch(a Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.at(secondOf(a))
	n.open[a.Kind][a.Priority]++
	r.inFlight++
	for _, c := range [...]*Counts{&n.Counts, &n.journeys[a.Kind], &n.levels[a.Priority], &r.total, &r.journeys[a.Kind], &r.levels[a.Priority], &r.tick.Counts} {
		c.Offered++
	}
}

// at is the notes of a second, made when there are none yet.
func (r *recorder) at(second int) *notes {
	for len(r.notes) <= second {
		n := new(notes)
		n.Second.Second = len(r.notes)
		if n.Second.Second > 0 { // about as many as in the second before
			before := r.notes[n.Second.Second-1]
			n.lag, n.latency = make([]int32, 0, len(before.lag)+16), make([]int32, 0, len(before.lag)+16)
		}
		r.notes = append(r.notes, n)
	}
	return r.notes[second]
}

// begin notes that a journey has begun, lag after it was meant to.
func (r *recorder) begin(a Arrival, lag time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	us := micros(lag)
	n := r.at(secondOf(a))
	n.lag = append(n.lag, us)
	observe(r.lag, us)
	observe(r.tick.lag, us)
}

// lost notes that the session of a journey's person was not known any more.
func (r *recorder) lost(a Arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.at(secondOf(a)).SessionsLost++
	}
}

// end notes what came of a journey, latency after it was meant to begin.
func (r *recorder) end(a Arrival, latency, deadline time.Duration, err error) {
	o, reason := judge(err, latency, deadline)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	n := r.at(secondOf(a))
	r.close(n, a.Kind, a.Priority, o, reason)
	if o == failed && unanswered(err) {
		n.Unanswered++
	}
	if o == good || o == late || o == refused {
		us := micros(latency)
		n.latency = append(n.latency, us)
		observe(r.latency[a.Kind], us)
		observe(r.tick.latency, us)
	}
}

// close counts the end of a journey that is open.
func (r *recorder) close(n *notes, k Kind, p Priority, o outcome, reason string) {
	n.open[k][p]--
	r.inFlight--
	for _, c := range [...]*Counts{&n.Counts, &n.journeys[k], &n.levels[p], &r.total, &r.journeys[k], &r.levels[p], &r.tick.Counts} {
		c.add(o, reason)
	}
	switch o {
	case refused:
		count(&n.RefusedBy, reason)
		count(&r.refused, reason)
	case shed:
		count(&n.ShedBy, reason)
		count(&r.shed, reason)
	}
}

// finish counts as NoAnswer what is still open, takes no more notes and gives
// the seconds in which load was offered.
func (r *recorder) finish(elapsed time.Duration) []Second {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.notes {
		for k := range kinds {
			for p := range priorities {
				for n.open[k][p] > 0 {
					r.close(n, k, p, failed, NoAnswer)
					n.Unanswered++
				}
			}
		}
	}
	r.over = true
	if last := int((elapsed - 1) / time.Second); elapsed > 0 {
		r.at(last) // also when nobody came in it
	}
	seconds := make([]Second, len(r.notes))
	scratch := newHistogram()
	for i, n := range r.notes {
		seconds[i] = n.finish(scratch)
	}
	return seconds
}

func (n *notes) finish(scratch *hdrhistogram.Histogram) Second {
	s := n.Second
	s.ByJourney, s.ByPriority = byName(n.journeys[:], kindNames[:]), byName(n.levels[:], priorityNames[:])
	sort := func(values []int32) Latency {
		scratch.Reset()
		for _, us := range values {
			observe(scratch, us)
		}
		return summarise(scratch)
	}
	if s.Lag = sort(n.lag); s.Lag.Count > 0 {
		s.LagHistogram = encode(scratch)
	}
	s.Latency = sort(n.latency)
	if s.Latency.Count > 0 {
		s.Histogram = encode(scratch)
	}
	return s
}

// byName are the counts of what was offered at all, by name.
func byName(counts []Counts, names []string) map[string]Counts {
	by := make(map[string]Counts)
	for i, c := range counts {
		if c.Offered > 0 {
			by[names[i]] = c
		}
	}
	return by
}

// Tick is one line of progress: what happened since the last one.
type Tick struct {
	// Elapsed is the time since the load began.
	Elapsed time.Duration `json:"elapsed"`
	// Counts are of journeys that began, and that ended, since the last tick:
	// unlike those of a Second they do not add up.
	Counts
	// InFlight is how many journeys are under way.
	InFlight int `json:"in_flight"`
	// LatencyP99 is of the journeys answered since the last tick, LagP99 of
	// those begun.
	LatencyP99 time.Duration `json:"latency_p99"`
	LagP99     time.Duration `json:"lag_p99"`
}

func (r *recorder) takeTick(elapsed time.Duration) Tick {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.tick
	t := Tick{Elapsed: elapsed, Counts: s.Counts, InFlight: r.inFlight, LatencyP99: quantile(s.latency, 99), LagP99: quantile(s.lag, 99)}
	s.Counts = Counts{}
	s.lag.Reset()
	s.latency.Reset()
	return t
}

func quantile(h *hdrhistogram.Histogram, percent float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(percent)) * time.Microsecond
}

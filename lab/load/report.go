package load

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// lagBound is the 99th percentile of the generator's lag above which a run says
// more about the generator's host than about the mesh.
const lagBound = 5 * time.Millisecond

// Report is what came of a run as a whole. Rates are per second of the time in
// which load was offered, latencies in milliseconds from the intended begin of
// a journey.
type Report struct {
	Seed uint64 `json:"seed"`
	// Rate is the mean rate that the plan intends, ForS its real length.
	Rate     float64 `json:"rate_per_s"`
	ForS     float64 `json:"for_s"`
	BuyRatio float64 `json:"buy_ratio"`
	// ElapsedS is how long load was offered: ForS, or less when it was cut short.
	ElapsedS float64 `json:"elapsed_s"`
	CutShort bool    `json:"cut_short"`

	// Offered counts journeys that were meant to begin. Each ends in exactly one
	// of Good, Refused, Shed, Late and Errors.
	Offered     int64            `json:"offered"`
	OfferedPerS float64          `json:"offered_per_s"`
	Good        int64            `json:"good"`
	GoodputPerS float64          `json:"goodput_per_s"`
	Refused     map[string]int64 `json:"refused_by_business_rule"`
	Shed        map[string]int64 `json:"shed"`
	Late        int64            `json:"late"`
	Errors      map[string]int64 `json:"errors"`

	// Latency is of journeys that were answered, by a yes, also a late one, or
	// by a rule of the business; what was shed and errors, being fast or slow for
	// reasons of their own, are left out.
	Latency    Latency                  `json:"latency_ms"`
	Journeys   map[string]JourneyReport `json:"journeys"`
	Priorities map[string]Counts        `json:"priorities"`
	Requests   map[string]int64         `json:"requests"`

	Purchases    int64 `json:"purchases"`
	SeatsBought  int64 `json:"seats_bought"`
	SessionsLost int64 `json:"sessions_lost"`

	// Lag is how much later than intended the generator began journeys. Honest
	// tells whether its 99th percentile is within 5 ms, and the median lateness
	// of every service within 5 % of what it models.
	Lag    Latency `json:"generator_lag_ms"`
	Honest bool    `json:"honest"`
	// Lateness is how much later than modelled the replicas answered, by
	// service; nil when it was not measured.
	Lateness []Lateness `json:"replica_lateness,omitempty"`
	// LatenessNote says why lateness is missing or incomplete.
	LatenessNote string `json:"replica_lateness_note,omitempty"`
}

// JourneyReport is the report of one kind of journey.
type JourneyReport struct {
	Counts
	GoodputPerS float64 `json:"goodput_per_s"`
	Latency     Latency `json:"latency_ms"`
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

func summarise(h *hdrhistogram.Histogram) Latency {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{
		Count: h.TotalCount(), P50: ms(h.ValueAtQuantile(50)), P99: ms(h.ValueAtQuantile(99)),
		P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max()),
	}
}

// report is the record of a run whose notes are complete.
func report(plan Plan, begin time.Time, elapsed time.Duration, cutShort bool, p *people, rec *recorder) *Record {
	r := &Record{Begin: begin, Plan: plan, Seconds: rec.finish(elapsed)}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	perS := func(n int64) float64 {
		if elapsed <= 0 {
			return 0
		}
		return float64(n) / elapsed.Seconds()
	}
	total := rec.total
	r.Report = Report{
		Seed: plan.Seed, Rate: plan.meanRate(), ForS: plan.Real().Seconds(), BuyRatio: plan.Journeys[Buy.String()].Share,
		ElapsedS: elapsed.Seconds(), CutShort: cutShort,
		Offered: total.Offered, OfferedPerS: perS(total.Offered), Good: total.Good, GoodputPerS: perS(total.Good),
		Refused: orEmpty(rec.refused), Shed: orEmpty(rec.shed), Late: total.Late, Errors: orEmpty(total.Errors),
		Journeys: make(map[string]JourneyReport), Requests: make(map[string]int64),
		Priorities: byName(rec.levels[:], priorityNames[:]),
		Purchases:  p.bought.Load(), SeatsBought: p.seats.Load(), SessionsLost: p.lostSessions.Load(),
		Lag: summarise(rec.lag),
	}
	all := newHistogram()
	for name, counts := range byName(rec.journeys[:], kindNames[:]) {
		r.Journeys[name] = JourneyReport{Counts: counts, GoodputPerS: perS(counts.Good)}
	}
	for k := range kinds {
		all.Merge(rec.latency[k])
		if j, ok := r.Journeys[k.String()]; ok {
			j.Latency = summarise(rec.latency[k])
			r.Journeys[k.String()] = j
		}
	}
	r.Latency = summarise(all)
	r.Honest = r.lagHonest()
	for i, name := range rpcs {
		r.Requests[name] = p.requests[i].Load()
	}
	return r
}

// orEmpty is an object in JSON also when there is nothing in it.
func orEmpty(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return m
}

// Judge adds the lateness of the replicas to the report and to its honesty.
func (r *Report) Judge(late []Lateness, note string) {
	r.Lateness, r.LatenessNote = late, note
	for _, l := range late {
		r.Honest = r.Honest && l.honest()
	}
}

func (r *Report) lagHonest() bool {
	return r.Lag.P99 <= float64(lagBound)/float64(time.Millisecond)
}

// Succeeded tells whether any journey was served.
func (r *Report) Succeeded() bool { return r.Good > 0 }

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "offered load     %8.1f /s   %d journeys in %.1f s (asked for %.4g /s for %.4g s, seed %d, %.0f %% buy)\n",
		r.OfferedPerS, r.Offered, r.ElapsedS, r.Rate, r.ForS, r.Seed, r.BuyRatio*100)
	if r.CutShort {
		fmt.Fprintf(out, "%17scut short: no journeys began after %.1f s\n", "", r.ElapsedS)
	}
	fmt.Fprintf(out, "goodput          %8.1f /s   %d journeys served within their deadline\n", r.GoodputPerS, r.Good)
	fmt.Fprintf(out, "errors           %8d\n", sum(r.Errors))
	lines(out, r.Errors)
	if len(r.Shed) > 0 {
		fmt.Fprintf(out, "shed             %8d      refused on purpose, to protect the mesh\n", sum(r.Shed))
		lines(out, r.Shed)
	}
	if r.Late > 0 {
		fmt.Fprintf(out, "late             %8d      served after the deadline\n", r.Late)
	}
	fmt.Fprintf(out, "refused by rule  %8d      correct answers that say no\n", sum(r.Refused))
	lines(out, r.Refused)
	if len(r.Priorities) > 1 {
		for _, name := range priorityNames {
			if c, ok := r.Priorities[name]; ok {
				fmt.Fprintf(out, "%-16s %8d      good of %d offered\n", name, c.Good, c.Offered)
			}
		}
	}
	fmt.Fprintf(out, "purchases        %8d      %d seats; sessions lost: %d\n", r.Purchases, r.SeatsBought, r.SessionsLost)
	fmt.Fprint(out, "requests        ")
	for _, name := range rpcs {
		fmt.Fprintf(out, " %s %d ", name, r.Requests[name])
	}
	fmt.Fprintf(out, "\n\n%-16s%10s%10s%10s%10s%10s\n", "milliseconds", "count", "p50", "p99", "p99.9", "max")
	row(out, "journeys", r.Latency)
	for _, name := range kindNames {
		if j, ok := r.Journeys[name]; ok {
			row(out, "  "+name, j.Latency)
		}
	}
	row(out, "generator lag", r.Lag)
	fmt.Fprintln(out, "\nLatency counts from the intended begin of a journey, answered journeys only.")
	if !r.lagHonest() {
		fmt.Fprintf(out, "NOT HONEST: the generator's lag p99 is above %s; this host was too busy to offer the load.\n", lagBound)
	}
	writeLateness(out, r)
	return out.Flush()
}

func row(w io.Writer, name string, l Latency) {
	fmt.Fprintf(w, "%-16s%10d%10.2f%10.2f%10.2f%10.2f\n", name, l.Count, l.P50, l.P99, l.P999, l.Max)
}

func lines(w io.Writer, counts map[string]int64) {
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "                 %8d      %s\n", counts[reason], reason)
	}
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// WriteText prints the tick as one line.
func (t Tick) WriteText(w io.Writer) {
	fmt.Fprintf(w, "%5.0fs  offered %4d  good %4d  refused %3d  shed %3d  errors %3d  in flight %3d  p99 %6.0f ms  lag p99 %5.2f ms\n",
		t.Elapsed.Seconds(), t.Offered, t.Good, t.Refused, t.Shed, t.Failed()+t.Late, t.InFlight,
		float64(t.LatencyP99.Microseconds())/1000, float64(t.LagP99.Microseconds())/1000)
}

package measure

// Recording is everything that was recorded of one run of one variant. What is
// nil or empty was not recorded; a measure that needs it is then left out, never
// guessed. Every number is finite: a rate that could not be had has no point.
type Recording struct {
	Variant string `json:"variant"`
	// Repeat counts the runs of the variant from 0.
	Repeat int    `json:"repeat"`
	Seed   uint64 `json:"seed"`
	// Timelapse is how many scenario seconds pass in a real one; 0 counts as 1.
	Timelapse float64 `json:"timelapse"`
	// Warmup and Duration, in scenario seconds, bound what is measured: load is
	// offered from 0 to Duration, and only [Warmup, Duration) counts.
	Warmup   float64 `json:"warmup_s"`
	Duration float64 `json:"duration_s"`

	// Load is what the generator counted, in order of T.
	Load []Load `json:"load,omitempty"`
	// Whole is the generator's summary of [Warmup, Duration). Quantiles of a
	// whole cannot be had from quantiles of its parts.
	Whole Whole `json:"whole"`
	// Rate is the load that the plan intends: journeys per real second over
	// time. It is the shape itself, without the chance in arrivals.
	Rate Series `json:"rate,omitempty"`
	// Mix is the share of each kind of journey in the load, 0 to 1.
	Mix map[string]float64 `json:"mix,omitempty"`

	Services []Service `json:"services,omitempty"`
	Edges    []Edge    `json:"edges,omitempty"`
	// UnderFault is what callers asked for and sent in FaultTimes, counted and not
	// taken from rates: a fault may be shorter than the window of a rate. Each
	// replica's count is from its last scrape before a fault to its first after
	// it.
	UnderFault []Sent `json:"under_fault,omitempty"`
	// Actions are the changes of desired replicas, in order of T.
	Actions []Action `json:"actions,omitempty"`
	// Warnings are what the autoscaler complained of while load was offered, in
	// order of First.
	Warnings []Warning `json:"warnings,omitempty"`
	// Faults are the faults that were in force, in order of From. One that has
	// no duration, such as a kill, has To equal to From.
	Faults []Window `json:"faults,omitempty"`
	// Nodes is how many nodes were there, those that still start included when
	// they are paid for.
	Nodes Series `json:"nodes,omitempty"`

	// HostCPU is the busy share of all cores of the machine, 0 to 1.
	HostCPU Series `json:"host_cpu,omitempty"`
	// HostStolen is the share of all cores for which a hypervisor kept the machine
	// waiting, 0 to 1. No process of the machine can do anything about it.
	HostStolen Series `json:"host_stolen,omitempty"`
	// LagP99 is the 99th percentile of how much later than intended the generator
	// began the journeys of [Warmup, Duration), in real milliseconds.
	LagP99 float64 `json:"lag_p99_ms"`
	// Gaps are the times for which scrapes of ready replicas failed or came so
	// late that a rate could not be had. Text names the replica.
	Gaps []Window `json:"gaps,omitempty"`
	// CutShort says that the run was stopped before Duration.
	CutShort bool `json:"cut_short,omitempty"`

	// The four counts are nil when they were not counted: 0 says that somebody
	// looked and there was none.

	// Lost counts requests that somebody sent and nobody answered: a replica or
	// a connection went away under them and no repetition helped. A refusal is
	// an answer.
	Lost *int64 `json:"lost,omitempty"`
	// Doubles counts executions of a handler beyond the first of a request, over
	// all pairs of caller and callee but those of Uncounted.
	Doubles *int64 `json:"doubles,omitempty"`
	// Uncounted are the pairs of services of which it cannot be told how much the
	// caller asked for, such as "order → inventory": a replica of the caller was
	// killed, and with it what it had counted last.
	Uncounted []string `json:"uncounted,omitempty"`
	// SessionsLost counts people who had signed in and were told that their
	// session is not known, and not because it ended.
	SessionsLost *int64 `json:"sessions_lost,omitempty"`
	// QuotaBreaches counts charges that the bank refused over its quota.
	QuotaBreaches *int64 `json:"quota_breaches,omitempty"`
}

// Point is a value that holds from T until the next point of its series. The
// first one also stands for the time before it.
type Point struct {
	// T is in scenario seconds since the load began.
	T float64 `json:"t"`
	V float64 `json:"v"`
}

// Series is a value over time, in order of T.
type Series []Point

// Counts is what became of journeys. Each that was offered ends in exactly one
// of Good, Late, Refused, Shed and the errors.
type Counts struct {
	// Offered journeys were meant to begin.
	Offered int64 `json:"offered"`
	// Good ones were answered correctly within their deadline: goodput.
	Good int64 `json:"good"`
	// Late ones were answered correctly after it.
	Late int64 `json:"late"`
	// Refused ones met a rule of the business, such as a seat that is taken.
	// They are correct answers but no goodput.
	Refused int64 `json:"refused"`
	// Shed ones were refused on purpose, to protect the mesh.
	Shed int64 `json:"shed"`
	// Errors counts the others by reason.
	Errors map[string]int64 `json:"errors,omitempty"`
}

// Load is what the generator counted in a bucket of time. A journey belongs to
// the bucket in which it was meant to begin, whenever it ended.
type Load struct {
	// T is where the bucket begins, Dur how long it is, in scenario seconds.
	T   float64 `json:"t"`
	Dur float64 `json:"dur"`
	Counts
	ByPriority map[string]Counts `json:"by_priority,omitempty"`
	ByJourney  map[string]Counts `json:"by_journey,omitempty"`
	// P50, P99 and P999 are latencies, in real milliseconds from the intended
	// begin, of journeys that were answered; 0 when none was.
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
}

// Whole is the latency, in real milliseconds from the intended begin, of the
// journeys that were answered in [Warmup, Duration): good, late, and refused by
// a rule of the business. Errors and shed journeys, fast or slow for reasons of
// their own, are left out.
type Whole struct {
	// Answered is how many there were; with 0 the quantiles mean nothing.
	Answered int64   `json:"answered"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
}

// Service is what was recorded of one service.
type Service struct {
	Name string `json:"name"`
	// Scaled says that an autoscaler or the scenario may change its number of
	// replicas in this variant or in another one of the same scenario. Only
	// scaled services enter the elasticity measures, and so every variant is
	// judged over the same services.
	Scaled bool `json:"scaled"`

	// Offered, Answered and Refused are calls per real second at its replicas;
	// Capacity is what its ready replicas can answer.
	Offered  Series `json:"offered,omitempty"`
	Answered Series `json:"answered,omitempty"`
	Refused  Series `json:"refused,omitempty"`
	Capacity Series `json:"capacity,omitempty"`
	// Pressure is Offered ÷ Capacity, Utilization busy slots ÷ slots, Queue
	// calls that wait for a slot.
	Pressure    Series `json:"pressure,omitempty"`
	Utilization Series `json:"utilization,omitempty"`
	Queue       Series `json:"queue,omitempty"`
	// Calls and Attempts are per real second at its callers: Calls is what they
	// asked for, Attempts is what they sent, repetitions included.
	Calls    Series `json:"calls,omitempty"`
	Attempts Series `json:"attempts,omitempty"`
	// Ready, Desired and Running are numbers of replicas. Running ones have
	// started, and nobody has asked for their end: those are paid for.
	Ready   Series `json:"ready,omitempty"`
	Desired Series `json:"desired,omitempty"`
	Running Series `json:"running,omitempty"`
	// Replicas are all that were ever ready.
	Replicas []Replica `json:"replicas,omitempty"`

	// CapacityOfOne is the calibrated capacity of one replica in calls per real
	// second: slots ÷ mean service time, without slow-down.
	CapacityOfOne float64 `json:"capacity_of_one"`
	// Visits is how many calls to the service one journey of a kind, or
	// AnyJourney, makes, when the scenario says so; without it the mean journey
	// is measured in the warm-up.
	Visits map[string]float64 `json:"visits,omitempty"`
	// LatenessP50 is the median of how much later than modelled its replicas
	// answered, ServiceTime the mean service time that is modelled; both in real
	// milliseconds.
	LatenessP50 float64 `json:"lateness_p50_ms"`
	ServiceTime float64 `json:"service_time_ms"`
}

// Replica is one replica of a service in the time in which it was ready.
type Replica struct {
	Name string `json:"name"`
	// From and To bound that time; To is Duration when it was ready to the end.
	From float64 `json:"from"`
	To   float64 `json:"to"`
	// Calls is per real second at this replica.
	Calls Series `json:"calls,omitempty"`
}

// Edge is the calls of one service to another.
type Edge struct {
	Caller string `json:"caller"`
	Callee string `json:"callee"`
	// Calls is what the caller asked for, per real second, without repetitions.
	Calls Series `json:"calls,omitempty"`
}

// Sent is how many calls a service asked another one for, and how many attempts
// it sent for them, repetitions included.
type Sent struct {
	Caller   string  `json:"caller"`
	Callee   string  `json:"callee"`
	Calls    float64 `json:"calls"`
	Attempts float64 `json:"attempts"`
}

// Action is a change of the desired replicas of a service, by an autoscaler or
// by hand.
type Action struct {
	T       float64 `json:"t"`
	Service string  `json:"service"`
	From    int     `json:"from"`
	To      int     `json:"to"`
	// Reason is in the words of who did it.
	Reason string `json:"reason,omitempty"`
}

// Warning is one complaint of an autoscaler, such as FailedGetResourceMetric,
// however often it came.
type Warning struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
	// Message is that of the last time.
	Message string `json:"message"`
	Count   int    `json:"count"`
	// First and Last are when it came, in scenario seconds.
	First float64 `json:"first"`
	Last  float64 `json:"last"`
}

// Window is a time from From to To with a name.
type Window struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
	Text string  `json:"text"`
}

// Summary is a measure over the repeats of a variant.
type Summary struct {
	// Median is of the repeats that have the measure.
	Median float64 `json:"median"`
	// Low and High bound the 95 % bootstrap interval of the median; with one
	// repeat they equal it.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

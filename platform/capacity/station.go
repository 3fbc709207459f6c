package capacity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrTooLate is wrapped by every refusal of a request that could not finish before its deadline.
var ErrTooLate = errors.New("the request would finish after its deadline")

// TooLateError is the refusal of a request that could not finish before its deadline; it wraps ErrTooLate. No slot was
// taken.
type TooLateError struct {
	// Wait is how long the request would have waited for a slot, counted from its arrival.
	Wait time.Duration
	// Service is how long it would have held the slot.
	Service time.Duration
	// Late is by how much its finish would have missed the deadline.
	Late time.Duration
}

func (e *TooLateError) Error() string {
	return fmt.Sprintf("%v: by %v, after a wait of %v and service of %v", ErrTooLate, e.Late, e.Wait, e.Service)
}

// Unwrap returns ErrTooLate.
func (e *TooLateError) Unwrap() error { return ErrTooLate }

// Plan is what admission would mean for a request, known before it is admitted.
type Plan struct {
	// Start is when a slot would take the request.
	Start time.Time
	// Finish is when the slot would be done with it.
	Finish time.Time
}

// Visit is what happened to an admitted request.
type Visit struct {
	// Wait is the virtual time from arrival until a slot took the request.
	Wait time.Duration
	// Service is the time that the slot was taken.
	Service time.Duration
	// Lateness is by how much the request left after its virtual finish: timers, scheduling, and an arrival that was
	// reported late. 0 when the caller gave up before.
	Lateness time.Duration
}

// Station is a replica's capacity on the real clock. It is safe for concurrent use.
type Station struct {
	config   Config
	burners  *burners // of a station that burns; nil in the model
	epoch    time.Time
	inFlight atomic.Int64
	patient  atomic.Bool // see SetRefuse
	wait     prometheus.Histogram
	lateness prometheus.Histogram
	refused  prometheus.Counter

	mu     sync.Mutex
	queue  queue
	source source
	// next is the service time at pace 1 of the request that comes next, drawn ahead so that Plan tells the truth.
	next time.Duration
	pace pace
}

// New returns an idle station whose metrics are registered with reg.
func New(cfg Config, reg prometheus.Registerer) (*Station, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Station{
		config:   cfg,
		epoch:    time.Now(),
		wait:     newWaitHistogram(),
		lateness: newLatenessHistogram(),
		refused:  newRefusedCounter(),
		queue:    newQueue(cfg.Slots),
		source:   newSource(cfg.ServiceTime, cfg.Distribution, cfg.Seed),
		pace:     pace{slowdown: 1, coldFactor: cfg.ColdFactor, coldFor: cfg.ColdFor},
	}
	if cfg.Kind == CPU {
		s.burners = newBurners(cfg.Slots)
	}
	s.next = s.source.draw()
	for _, collector := range []prometheus.Collector{s.wait, s.lateness, s.refused, gauges{s}} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register the metrics of capacity: %w", err)
		}
	}
	return s, nil
}

// SetSlowdown makes the service time of every request that is admitted from now on factor times what it would be, as a
// neighbour on the same machine or a slow disk does. 1 is none; a factor that is not above 0 is refused.
func (s *Station) SetSlowdown(factor float64) error {
	if !(factor > 0) || math.IsInf(factor, 1) {
		return fmt.Errorf("capacity slow-down: %v is not allowed, give a factor above 0", factor)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pace.slowdown = factor
	return nil
}

// SetRefuse says whether requests that cannot finish in time are refused, as they are at first, from now on. When they are
// not, the station is the server that knows of no deadlines: it takes every request, a slot does all its work although the
// caller is gone by then, and that work is lost.
func (s *Station) SetRefuse(refuse bool) { s.patient.Store(!refuse) }

// Started says that the replica is able to serve: from now on it warms up (Config.ColdFor). Later calls change nothing.
func (s *Station) Started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pace.begun {
		s.pace.begun, s.pace.started = true, time.Since(s.epoch)
	}
}

// Occupy has the replica's own work (its start, say) keep a share of the slots, 0 to 1, busy for d. Whole slots are
// taken, at least one when share is above 0, behind what was admitted before. It returns at once. In the model the slots
// stay taken whatever happens; a station that burns lets go when ctx ends, and wait returns when its threads have done so.
func (s *Station) Occupy(ctx context.Context, share float64, d time.Duration) (wait func()) {
	if share <= 0 || d <= 0 || s.config.ServiceTime == 0 {
		return func() {}
	}
	n := max(1, int(math.Round(min(share, 1)*float64(s.config.Slots))))
	if s.burners != nil {
		return s.burners.occupy(ctx, n, d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.epoch)
	for range n {
		s.queue.admit(now, d)
	}
	return func() {}
}

// Slots is K, the number of requests served at the same time.
func (s *Station) Slots() int { return s.config.Slots }

// ServiceTime is the mean service time of a request that is admitted now, slow-down and cold start included.
func (s *Station) ServiceTime() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return stretch(s.config.ServiceTime, s.pace.at(time.Since(s.epoch)))
}

// Plan tells what admission would mean for a request that came next with this arrival time. Nothing is reserved, so
// another request may take its place. A station that burns cannot know when its slots become free: there it tells the
// best case, a free slot.
func (s *Station) Plan(arrival time.Time) Plan {
	if s.config.ServiceTime == 0 {
		return Plan{Start: arrival, Finish: arrival}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := arrival.Sub(s.epoch)
	start := at
	if s.burners == nil {
		start = s.queue.start(at)
	}
	return Plan{Start: s.epoch.Add(start), Finish: s.epoch.Add(start + stretch(s.next, s.pace.at(at)))}
}

// Serve gives the request a slot and returns when the slot is done with it. arrival is when the request arrived, best
// stamped as early as possible: time lost between then and this call is not queued again. It must be set.
//
// A request whose finish lies after ctx's deadline is refused at once with a *TooLateError and takes no slot, unless
// SetRefuse says otherwise. When ctx ends while the request waits or is served, Serve returns ctx's error; its slot time
// stays used, since work that was begun is not given back.
func (s *Station) Serve(ctx context.Context, arrival time.Time) (Visit, error) {
	if s.config.ServiceTime == 0 {
		return Visit{}, nil
	}
	if s.burners != nil {
		return s.burn(ctx, arrival)
	}
	visit, finish, err := s.admit(ctx, arrival)
	if err != nil {
		s.refused.Inc()
		return Visit{}, err
	}
	s.wait.Observe(visit.Wait.Seconds())
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	if remaining := time.Until(finish); remaining > 0 {
		timer := time.NewTimer(remaining)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return visit, ctx.Err()
		}
	}
	visit.Lateness = max(0, time.Since(finish))
	s.lateness.Observe(visit.Lateness.Seconds())
	return visit, nil
}

// draw gives the service time of a request that is admitted at an offset from the epoch. The caller holds s.mu.
func (s *Station) draw(at time.Duration) time.Duration {
	service := stretch(s.next, s.pace.at(at))
	s.next = s.source.draw()
	return service
}

// admit reserves a slot, or refuses. A refused request takes its service time with it: were it left for the next one,
// a single long draw would have everybody refused who comes with the same deadline.
func (s *Station) admit(ctx context.Context, arrival time.Time) (Visit, time.Time, error) {
	at := arrival.Sub(s.epoch)

	s.mu.Lock()
	defer s.mu.Unlock()
	service := s.draw(at)
	if deadline, ok := ctx.Deadline(); ok && !s.patient.Load() {
		start := s.queue.start(at)
		if late := start + service - deadline.Sub(s.epoch); late > 0 {
			return Visit{}, time.Time{}, &TooLateError{Wait: start - at, Service: service, Late: late}
		}
	}
	start, finish := s.queue.admit(at, service)
	s.queue.begin(time.Since(s.epoch))
	return Visit{Wait: start - at, Service: service}, s.epoch.Add(finish), nil
}

// load tells the station's state now.
func (s *Station) load() load {
	if s.burners != nil {
		return s.burners.load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.load(time.Since(s.epoch))
}

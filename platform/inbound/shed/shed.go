package shed

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/telemetry"
)

const (
	off      = "off"
	priority = "priority"
)

// answer is what refused calls get. Who is turned away now is turned away a moment later too.
var answer = refusal.Overloaded("shed", time.Second, "there is more to do than can be done, and other calls are more urgent; try later")

// Shedder turns calls of one replica away. It is safe for concurrent use.
type Shedder struct {
	mode    *knobs.Choice
	target  *knobs.Duration
	wait    func(arrival time.Time) time.Duration
	refused *refusal.By

	mu    sync.Mutex
	level *level
}

// New returns a shedder. It declares the knobs shed.mode and shed.target in set; with the first at its default, off, every
// call passes. wait tells for how long a call that arrives at the given time would wait for a slot; it is called by any
// goroutine.
func New(set *knobs.Set, reg prometheus.Registerer, refused *refusal.Counter, wait func(arrival time.Time) time.Duration) (*Shedder, error) {
	s := &Shedder{
		mode: set.Choice("shed.mode", off, []string{off, priority},
			"under overload calls are turned away: off, or the least urgent first"),
		target: set.Duration("shed.target", 20*time.Millisecond, time.Millisecond, 10*time.Second,
			"the mean wait for a slot, a duration, above which the replica is overloaded"),
		wait:    wait,
		refused: refused.Inbound("shed"),
		level:   newLevel(),
	}
	s.mode.OnChange(func(string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.level = newLevel()
	})
	for _, g := range []prometheus.GaugeFunc{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "spillway_shed_level",
			Help: "Priorities that are let in, the most urgent first: 128 bands for each of the three classes, so 384 when nobody is turned away.",
		}, func() float64 { admit, _ := s.state(); return float64(admit) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "spillway_shed_wait_seconds",
			Help: "Mean wait for a slot that calls met in the last window, those turned away included; 0 while shedding is off.",
		}, func() float64 { _, mean := s.state(); return mean.Seconds() }),
	} {
		if err := reg.Register(g); err != nil {
			return nil, fmt.Errorf("register the metrics of shedding: %w", err)
		}
	}
	return s, nil
}

func (s *Shedder) state() (admit int, mean time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level.admit, s.level.mean
}

// pass gives the answer of a call that is turned away, nil for one that is let in.
func (s *Shedder) pass(ctx context.Context) error {
	arrival := telemetry.Arrival(ctx)
	wait := s.wait(arrival)
	rank := criticality.Rank(criticality.From(ctx))
	s.mu.Lock()
	admitted := s.level.arrive(arrival, rank, wait, s.target.Get())
	s.mu.Unlock()
	if admitted {
		return nil
	}
	s.refused.Count(ctx)
	return answer
}

// Unary is the interceptor of unary calls.
func (s *Shedder) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if s.mode.Get() != off {
		if err := s.pass(ctx); err != nil {
			return nil, err
		}
	}
	return handler(ctx, req)
}

// Stream is the interceptor of streams, on which it decides once.
func (s *Shedder) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if s.mode.Get() != off {
		if err := s.pass(ss.Context()); err != nil {
			return err
		}
	}
	return handler(srv, ss)
}

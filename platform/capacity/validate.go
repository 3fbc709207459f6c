package capacity

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say how long Validate may take.
type Options struct {
	// Duration is how long requests arrive in real time, 30 s for a good estimate; Validate takes some 10 s more.
	Duration time.Duration
	// Seed makes arrivals and service times reproducible.
	Seed uint64
}

// Result compares one station with Erlang C.
type Result struct {
	// Rho is the utilization and Slots is K.
	Rho   float64
	Slots int
	// ServiceTime is the mean service time of this case.
	ServiceTime time.Duration
	// Want is Erlang C's mean wait, and Got the real station's, as its callers saw it.
	Want, Got time.Duration
	// RelErr is |Got − Want| ÷ Want.
	RelErr float64
	// Arrivals is the number of requests that the real station served.
	Arrivals int
	// LatenessP50 is the median lateness of the real station.
	LatenessP50 time.Duration
}

// Validate runs real stations on the real clock at ρ = 0.5, 0.8 and 0.95 with K = 1 and 8, all at once, with Poisson
// arrivals and exponential service times, and compares the mean wait with Erlang C. It ends early with ctx's error.
//
// The wait is what a caller sees: from the intended arrival until Serve returns, less the service time. So it includes
// lateness, of the timers and of the caller's own goroutine: a host with too little CPU fails, as it should. Since a
// timer is some 0.5 ms late on an idle host, each case has a service time that makes the wanted wait at least 30 ms.
//
// The plain mean would need hours: at ρ = 0.95 successive waits are so alike that 15 % takes half a million requests.
// The estimate has two parts instead, as in two-level Monte Carlo (M. B. Giles, Multilevel Monte Carlo Path Simulation,
// Operations Research 56(3), 2008):
//
//	Got = mean wait of the model over up to millions of requests in virtual time
//	    + mean of (real wait − model's wait) over the real requests, where the model gets the same arrivals and services
//
// The first part carries the error of the queueing model, the second that of everything between the model and a
// caller: admission order, locking, timers, scheduling. Neither part is compared with itself. What the estimate cannot
// see is a deviation that would need a longer run to appear than Duration.
func Validate(ctx context.Context, opts Options) ([]Result, error) {
	return validate(ctx, opts, modelRequests)
}

// validate is Validate with the number of the model's requests at each ρ given by requests.
func validate(ctx context.Context, opts Options, requests func(rho float64) int) ([]Result, error) {
	var results []Result
	for _, slots := range []int{1, 8} {
		for _, rho := range []float64{0.5, 0.8, 0.95} {
			relative := ErlangC(rho, slots, time.Second).Seconds()
			service := max(20*time.Millisecond, time.Duration(float64(30*time.Millisecond)/relative))
			results = append(results, Result{Rho: rho, Slots: slots, ServiceTime: service, Want: ErlangC(rho, slots, service)})
		}
	}
	// The model runs first and alone: it is the part that takes CPU, and would make the real stations late.
	modelled := make([]time.Duration, len(results))
	for i, r := range results {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("validate capacity: %w", err)
		}
		modelled[i] = modelWait(r.config(opts.Seed<<8+uint64(i)), r.Rho, requests(r.Rho))
	}
	failures := make([]error, len(results))
	var cases sync.WaitGroup
	for i := range results {
		cases.Go(func() {
			r := &results[i]
			// Another seed than the model's: the two parts of the estimate must not share their luck.
			excess, err := r.run(ctx, opts.Duration, opts.Seed<<8+uint64(len(results)+i))
			r.Got = modelled[i] + excess
			r.RelErr = math.Abs(float64(r.Got-r.Want)) / float64(r.Want)
			failures[i] = err
		})
	}
	cases.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, fmt.Errorf("validate capacity: %w", err)
		}
	}
	return results, nil
}

func (r *Result) config(seed uint64) Config {
	return Config{Slots: r.Slots, ServiceTime: r.ServiceTime, Distribution: Exponential, Seed: seed}
}

// run sends Poisson arrivals to a real station for duration, fills in what was seen, and returns the mean of real wait
// less model's wait.
func (r *Result) run(ctx context.Context, duration time.Duration, seed uint64) (time.Duration, error) {
	config := r.config(seed)
	station, err := New(config, prometheus.NewRegistry())
	if err != nil {
		return 0, err
	}
	gaps := newArrivals(config, r.Rho)
	model, services := newQueue(config.Slots), newSource(config.ServiceTime, config.Distribution, config.Seed)

	var (
		callers sync.WaitGroup
		mu      sync.Mutex
		excess  time.Duration
		late    []time.Duration
		failed  error
	)
	begin := time.Now()
	for at := gaps.draw(); at < duration; at += gaps.draw() {
		intended := begin.Add(at)
		start, _ := model.admit(at, services.draw())
		modelled := start - at
		if sleepUntil(ctx, intended) != nil {
			break
		}
		callers.Go(func() {
			visit, err := station.Serve(ctx, intended)
			wait := time.Since(intended) - visit.Service
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			excess += wait - modelled
			late = append(late, visit.Lateness)
		})
	}
	callers.Wait()
	// A station refuses what cannot finish before ctx's deadline, so ctx may still be alive when requests have failed.
	if err := cmp.Or(ctx.Err(), failed); err != nil {
		return 0, err
	}
	if len(late) == 0 {
		return 0, fmt.Errorf("no request arrived in %v with a mean service time of %v, give more time", duration, r.ServiceTime)
	}
	slices.Sort(late)
	r.Arrivals, r.LatenessP50 = len(late), late[len(late)/2]
	return excess / time.Duration(len(late)), nil
}

// modelRequests is how many requests give the mean wait a standard error below 2 %. With one slot near saturation
// it is 2 ÷ ((1 − ρ)√n) (after W. Whitt, Planning Queueing Simulations, Management Science 35(11), 1989); many slots at
// a low ρ need more than that gives, since few requests wait at all.
func modelRequests(rho float64) int {
	return max(1_000_000, int(16_000/((1-rho)*(1-rho))))
}

// modelWait returns the mean wait in the model alone, over n requests after a warm-up of n ÷ 20.
func modelWait(config Config, rho float64, n int) time.Duration {
	queue, services := newQueue(config.Slots), newSource(config.ServiceTime, config.Distribution, config.Seed)
	gaps := newArrivals(config, rho)
	var at time.Duration
	var total float64
	warm := n / 20
	for i := range warm + n {
		at += gaps.draw()
		start, _ := queue.admit(at, services.draw())
		queue.begin(at)
		if i >= warm {
			total += float64(start - at)
		}
	}
	return time.Duration(total / float64(n))
}

// newArrivals returns the gaps of a Poisson process that keeps the slots of config busy to rho.
func newArrivals(config Config, rho float64) source {
	mean := float64(config.ServiceTime) / (rho * float64(config.Slots))
	return source{
		mean:        time.Duration(mean),
		exponential: true,
		random:      newRandom(config.Seed, 0xd1b54a32d192ed03),
	}
}

func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

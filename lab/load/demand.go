package load

import (
	"math"
	"sort"
	"time"
)

// integral gives the expected number of arrivals in the first t nominal
// seconds if rates are per nominal second: the integral of RateAt from 0 to t,
// in closed form. It is continuous and never falls.
func (s Shape) integral() func(t float64) float64 {
	period, rise := s.Period.Seconds(), s.Peak-s.Base
	switch s.Kind {
	case "ramp":
		at, over := s.At.Seconds(), s.Over.Seconds()
		return func(t float64) float64 {
			x := min(max(t-at, 0), over) // time within the ramp
			return s.From*t + (s.To-s.From)*x*x/(2*over) + (s.To-s.From)*max(t-at-over, 0)
		}
	case "step":
		return stairs(s.Steps, s.Base)
	case "spike":
		return stairs([]Step{{At: s.At, Rate: s.Peak}, {At: s.At + s.For, Rate: s.Base}}, s.Base)
	case "sine":
		return func(t float64) float64 {
			angle := 2 * math.Pi * t / period
			return s.Base*t + rise/2*(t-math.Sin(angle)*period/(2*math.Pi))
		}
	case "sawtooth":
		return func(t float64) float64 {
			whole := math.Floor(t / period)
			x := t - whole*period
			return s.Base*t + rise/2*(whole*period+x*x/period)
		}
	case "csv":
		return stairs(s.rows, 0)
	default: // constant
		return func(t float64) float64 { return s.Rate * t }
	}
}

// stairs is the integral of a rate that is base and then that of the latest step.
func stairs(steps []Step, base float64) func(t float64) float64 {
	begins := make([]float64, len(steps)+1) // in seconds; the first is 0
	rates := make([]float64, len(steps)+1)
	until := make([]float64, len(steps)+1) // the integral at begins
	rates[0] = base
	for i, step := range steps {
		begins[i+1], rates[i+1] = step.At.Seconds(), step.Rate
		until[i+1] = until[i] + rates[i]*(begins[i+1]-begins[i])
	}
	return func(t float64) float64 {
		i := sort.Search(len(begins), func(i int) bool { return begins[i] > t }) - 1
		i = max(i, 0)
		return until[i] + rates[i]*(t-begins[i])
	}
}

// instants turns expected numbers of arrivals into times: the inverse of the
// integrated rate, for targets that rise.
type instants struct {
	expected func(t time.Duration) float64 // arrivals expected until the real time t
	end      time.Duration
	last     time.Duration // of the latest target
}

func (p Plan) instants() *instants {
	integral := p.Shape.integral()
	return &instants{
		// A nominal second takes 1/Timelapse real ones, rates are per real second.
		expected: func(t time.Duration) float64 { return integral(t.Seconds()*p.Timelapse) / p.Timelapse },
		end:      (p.Real() + time.Microsecond - 1).Truncate(time.Microsecond),
	}
}

// next is the first microsecond by which target arrivals are expected; false
// when that is not before the end. No timer is finer, and it is coarse enough
// for the last digits of floating-point numbers, in which processors differ, to
// make no difference.
func (in *instants) next(target float64) (time.Duration, bool) {
	low, step := in.last, time.Millisecond // expected(low) < target, or low is the last answer
	high := low
	for in.expected(high) < target {
		if high >= in.end {
			return 0, false
		}
		low, high = high, min(high+step, in.end)
		step *= 2
	}
	for high-low > time.Microsecond {
		if middle := (low + (high-low)/2).Truncate(time.Microsecond); in.expected(middle) < target {
			low = middle
		} else {
			high = middle
		}
	}
	in.last = high
	return high, high < in.end
}

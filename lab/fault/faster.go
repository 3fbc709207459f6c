package fault

import "time"

// Faster is the fault in a time-lapse of n: delays that stand for start-up and for the spreading of endpoints are divided
// by n. Latency is not: it adds to service times, which no time-lapse shortens.
func (f Fault) Faster(n float64) Fault {
	divide := func(d time.Duration) time.Duration { return time.Duration(float64(d) / n) }
	if f.Endpoints != nil {
		f.Endpoints = &Endpoints{Delay: divide(f.Endpoints.Delay)}
	}
	if f.SlowStart != nil {
		f.SlowStart = &SlowStart{Service: f.SlowStart.Service, Delay: divide(f.SlowStart.Delay)}
	}
	return f
}

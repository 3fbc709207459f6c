package capacity

import "time"

// ErlangC returns the mean wait of an M/M/K queue: Poisson arrivals, exponential service times with mean service,
// slots servers, utilization ρ = arrival rate × service ÷ slots. ρ must lie in [0, 1): from 1 on there is no mean.
//
// The probability of waiting is computed from Erlang B by the recursion B(k) = aB(k−1) / (k + aB(k−1)), which does not
// overflow (A. K. Erlang 1917; recursion and the step from B to C as in L. Kleinrock, Queueing Systems I, 1975, 3.5 and
// 3.6).
func ErlangC(rho float64, slots int, service time.Duration) time.Duration {
	offered := rho * float64(slots)
	blocked := 1.0
	for k := 1; k <= slots; k++ {
		blocked = offered * blocked / (float64(k) + offered*blocked)
	}
	waits := blocked / (1 - rho*(1-blocked))
	return time.Duration(waits / (float64(slots) * (1 - rho)) * float64(service))
}

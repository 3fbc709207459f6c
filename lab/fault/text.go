package fault

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// String says the fault in words: "latency 200ms on gateway → catalog".
func (f Fault) String() string {
	switch {
	case f.Latency != nil:
		return fmt.Sprintf("latency %v on %s%v", f.Latency.Delay, part(f.Latency), f.Latency)
	case f.Errors != nil:
		return fmt.Sprintf("errors on %s%v", part(f.Errors), f.Errors)
	case f.SlowDown != nil:
		return fmt.Sprintf("%s slowed down %s×", f.SlowDown.Service, number(f.SlowDown.Factor))
	case f.Kill != nil:
		return "kill " + f.Kill.String()
	case f.Pause != nil:
		return "pause " + f.Pause.String()
	case f.Store != nil:
		return f.Store.Name + " stopped"
	case f.Endpoints != nil:
		if f.Endpoints.Delay == 0 {
			return "endpoint updates dropped"
		}
		return fmt.Sprintf("endpoint updates %v late", f.Endpoints.Delay)
	case f.SlowStart != nil:
		return fmt.Sprintf("%s starts %v slower", f.SlowStart.Service, f.SlowStart.Delay)
	case f.BankQuota != nil:
		return fmt.Sprintf("bank quota %d/s", f.BankQuota.PerSecond)
	}
	return "no fault"
}

// String names the edge: "gateway → catalog".
func (e *Edge) String() string {
	return cmp.Or(e.Caller, "every caller") + " → " + e.Callee
}

// String counts the replicas: "2 replicas of order".
func (r *Replicas) String() string {
	if r.count() == 1 {
		return "1 replica of " + r.Service
	}
	return fmt.Sprintf("%d replicas of %s", r.count(), r.Service)
}

// part is the share of an edge's calls in words, empty when all are meant.
func part(e *Edge) string {
	if e.all() == 1 {
		return ""
	}
	return number(e.Share*100) + " % of "
}

// number is short: six digits at most, no trailing zeros.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

func join(names []string) string { return strings.Join(names, ", ") }

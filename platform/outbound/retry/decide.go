// Package retry sends a call again when that is safe and has a chance: the
// method's idempotency_level must allow it, the failure must be one that may
// pass, and the wait must fit into the time left.
package retry

import (
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
)

// The wait before attempt n+1 is drawn from [0, min(maxWait, baseWait·2^(n-1))):
// exponential back-off with full jitter, which spreads callers that failed
// together best (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture
// Blog, 2015).
const (
	baseWait = 25 * time.Millisecond
	maxWait  = 500 * time.Millisecond
)

// passing tells whether the same request may succeed when sent again. A
// deadline that passed is no such failure, although a caller with more time
// may try again: this call's time is what it is.
func passing(p *problem.Problem) bool {
	switch p.Code {
	case codes.DeadlineExceeded, codes.Canceled:
		return false
	case codes.Unavailable:
		return true
	}
	return p.Retryable
}

// wait is the time before the attempt after the given number of failed ones
// (at least 1). draw is from [0, 1). The server's wish is a lower bound: it
// knows when trying again makes sense, and full jitter is added to it, lest all
// come back at once.
func wait(failed int, p *problem.Problem, draw float64) time.Duration {
	ceiling := maxWait
	if shift := failed - 1; shift < 10 {
		ceiling = min(maxWait, baseWait<<shift)
	}
	return p.RetryAfter + time.Duration(draw*float64(ceiling))
}

// Package retry sends a call again when that is safe and has a chance: the
// method's idempotency_level must allow it, the callee must have been away and
// not have refused, and the wait must fit into the time left.
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

// passing tells whether this hop sends the same request again: only when the
// callee was away, UNAVAILABLE, and nobody said that another attempt is of no
// use. What the transport itself calls UNAVAILABLE is retryable, see
// problem.From.
//
// A refusal is never repeated, whatever it says of being retryable. Every hop
// on the way would do so, and a service that refuses because it is full would
// get a multiple of the load (B. Beyer et al., "Site Reliability Engineering",
// 2016, chapter 21, "Deciding to Retry"); retryable
// tells the client at the edge, once, what it may do. ABORTED is left to it
// too: it asks for another attempt by whoever began the whole, as gRPC defines
// it, and not for the same call by the last hop. A deadline that passed is
// none either: this call's time is what it is.
func passing(p *problem.Problem) bool {
	return p.Code == codes.Unavailable && p.Retryable
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

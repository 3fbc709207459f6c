// Package retry sends a call again when that is safe and has a chance: the
// method's idempotency_level must allow it, the failure must be one that passes,
// and the wait must fit into the time left. How much is sent again beyond that
// is the mode's decision.
package retry

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
)

// The modes of knob retry.mode.
const (
	// Plain retries what was away, without a budget.
	Plain = "plain"
	// Budget retries what was away and attempts that timed out, under the
	// process's budget and at one layer of the graph.
	Budget = "budget"
	// Naive retries whatever calls itself retryable, at every layer and without
	// a budget: how a retry storm is made.
	Naive = "naive"
)

// The wait before attempt n+1 is drawn from [0, min(maxWait, baseWait·2^(n-1))]:
// exponential back-off with full jitter, which spreads callers that failed
// together best (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture
// Blog, 2015).
const (
	baseWait = 25 * time.Millisecond
	maxWait  = 500 * time.Millisecond
)

// waits are those of one call. The library draws around an interval, by a
// factor: with a factor of 1 around half of the ceiling that is full jitter.
func waits() backoff.ExponentialBackOff {
	return backoff.ExponentialBackOff{InitialInterval: baseWait / 2, RandomizationFactor: 1, Multiplier: 2, MaxInterval: maxWait / 2}
}

// passing tells whether this hop sends the same request again.
//
// In modes Plain and Budget only when the callee was away, UNAVAILABLE, and
// nobody said that another attempt is of no use. What the transport itself
// calls UNAVAILABLE is retryable, see problem.From. An attempt that timed out
// passes in mode Budget: only there is a bound on how many do.
//
// A refusal is never repeated, whatever it says of being retryable. Every hop
// on the way would do so, and a service that refuses because it is full would
// get a multiple of the load (B. Beyer et al., "Site Reliability Engineering",
// 2016, chapter 21, "Deciding to Retry"); retryable
// tells the client at the edge, once, what it may do. ABORTED is left to it
// too: it asks for another attempt by whoever began the whole, as gRPC defines
// it, and not for the same call by the last hop. A call's deadline that passed
// is none either: this call's time is what it is.
//
// Mode Naive does all of that, but for ABORTED.
func passing(mode string, p *problem.Problem) bool {
	if !p.Retryable || p.Reason == problem.BreakerOpen { // an open breaker tells the edge alone when to come again
		return false
	}
	switch p.Code {
	case codes.Unavailable:
		return true
	case codes.DeadlineExceeded:
		return mode == Naive || mode == Budget && p.Reason == problem.AttemptTimeout
	case codes.ResourceExhausted:
		return mode == Naive
	}
	return false
}

// pause is the time before the next attempt. The server's wish is a lower
// bound: it knows when trying again makes sense, and the jitter is added to it,
// lest all come back at once. Mode Naive does not ask.
func pause(mode string, p *problem.Problem, jitter time.Duration) time.Duration {
	if mode == Naive {
		return jitter
	}
	return p.RetryAfter + jitter
}

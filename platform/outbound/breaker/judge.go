package breaker

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
)

// verdict is what a call that ended says about the callee.
type verdict int

const (
	well    verdict = iota // it is well
	ailing                 // it is not
	nothing                // neither
)

// judge decides what a call says about the callee that ended with err (nil: it succeeded) after took. slow is the time
// from which on a call counts as failed whatever its answer; 0 when its length says nothing, as a stream's.
//
// UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL and UNKNOWN are failures. Every other answer (NOT_FOUND, FAILED_PRECONDITION
// and so on) is that of a callee which works.
//
// RESOURCE_EXHAUSTED says nothing. It is how a callee protects itself: it sheds the least important calls, holds one
// person to a rate, keeps a quota. A breaker that counted it would cut off the important calls, and everybody else, for
// the sake of those. A caller's own cancellation says nothing either, nor does a call that never left this process.
// Whoever waited as long as a slow call before giving up has seen a slow callee, though.
func judge(err error, took, slow time.Duration) verdict {
	if refusedHere(err) {
		return nothing
	}
	if slow > 0 && took >= slow {
		return ailing
	}
	if err == nil {
		return well
	}
	switch problem.From(err).Code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown:
		return ailing
	case codes.ResourceExhausted, codes.Canceled:
		return nothing
	}
	return well
}

// refusedHere tells a refusal by a protection of this process, which is inside the breaker, from the callee's: what came
// over RPC is no *problem.Problem yet.
func refusedHere(err error) bool {
	p, ours := errors.AsType[*problem.Problem](err)
	return ours && p.Reason == problem.Overloaded
}

// tripped decides whether a closed breaker opens.
func tripped(succeeded, failed uint32, ratio float64) bool {
	n := succeeded + failed
	return n >= minimumCalls && float64(failed) >= ratio*float64(n)
}

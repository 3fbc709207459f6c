// Package pacing spaces the calls to a callee, so that they come at a steady rate and no more of them than it allows: the
// callee has a quota, and each replica that calls it adds to the sum. A call waits for its turn; one whose turn cannot
// come in time fails at once, and takes nothing from the others.
//
// The schedule is that of go.uber.org/ratelimit. Its Take sleeps without a context, so it gets a clock of ours, which
// does not sleep: Take then only says when the call's turn is, and the waiting is done here, with the context. Whether
// that is in time is known before Take is asked.
package pacing

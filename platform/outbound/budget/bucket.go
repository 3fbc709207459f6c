package budget

import (
	"math"
	"sync/atomic"
)

// A bucket counts in thousandths of a token, so that no sum is rounded.
const token = 1000

// burst is how many tokens a bucket holds, and begins with: a process that
// sends few calls can retry at all, and after a quiet hour no more than these
// are sent at once. It is small, since all of it comes on top of the share.
const burst = 10

// bucket holds tokens: each call puts a share of one in, each attempt beyond a
// call's first takes a whole one out. In any stretch of time it gives out at
// most burst + share × calls, whoever takes part. The idea is Finagle's
// RetryBudget and gRPC's retry throttling (proposal A6); theirs refill by time
// or by success, this one by calls alone, so that there is no rate at which it
// gives more than its share.
//
// The zero value is empty. Safe for concurrent use.
type bucket struct {
	left atomic.Int64 // 0 to burst·token
}

// put adds a share of a token, 0 to 1. A full bucket, as in good times, costs
// one load.
func (b *bucket) put(share float64) {
	more := int64(math.Round(share * token))
	for {
		have := b.left.Load()
		if have == burst*token || more <= 0 {
			return
		}
		if b.left.CompareAndSwap(have, min(have+more, burst*token)) {
			return
		}
	}
}

// take removes one token, and tells whether there was one.
func (b *bucket) take() bool {
	for {
		have := b.left.Load()
		if have < token {
			return false
		}
		if b.left.CompareAndSwap(have, have-token) {
			return true
		}
	}
}

// tokens is what is left.
func (b *bucket) tokens() float64 { return float64(b.left.Load()) / token }

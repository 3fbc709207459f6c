// Package attempt is one sending of a call, of which retries and hedges make
// several: the number that travels with it, the word that comes back when a hop
// below has decided on retries already, and the time that it may take.
//
// Number and word are there so that a call is retried at one layer. Where every
// layer of a graph makes three attempts of what fails at its end, the end gets
// three times three (B. Beyer et al., "Site Reliability Engineering", 2016,
// chapter 22, "Retries": only the layer above the one that rejects should try
// again).
package attempt

import (
	"context"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Header is the metadata key of an attempt's number, from 2 on. A first attempt
// carries none.
const Header = "x-spillway-attempt"

// DecidedHeader is the trailer key by which a hop tells its caller that below it
// a call failed for which it decided on retries itself.
const DecidedHeader = "x-spillway-retry-decided"

// maxNumber bounds the numbers that are believed.
const maxNumber = 99

// Number is that of the attempt by which the request came that ctx belongs to:
// 1 for a first one. Metadata that is malformed or given twice counts as none.
func Number(ctx context.Context) int {
	values := metadata.ValueFromIncomingContext(ctx, Header)
	if len(values) != 1 {
		return 1
	}
	n, err := strconv.Atoi(values[0])
	if err != nil || n < 2 || n > maxNumber || strconv.Itoa(n) != values[0] {
		return 1
	}
	return n
}

// Mark returns ctx, whose calls carry the number n, at least 2, in place of the
// one that was there.
func Mark(ctx context.Context, n int) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx) // a copy
	if !ok {
		md = make(metadata.MD, 1)
	}
	md.Set(Header, strconv.Itoa(min(n, maxNumber)))
	return metadata.NewOutgoingContext(ctx, md)
}

// Decide tells the caller of the request that ctx belongs to that retries were
// decided on here; of work that several requests share, see Share, all of their
// callers. Work that no request began has nobody to tell.
func Decide(ctx context.Context) {
	if s, ok := ctx.Value(sharedKey{}).(*Shared); ok {
		s.decided.Store(true)
		return
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs(DecidedHeader, "1"))
}

// Shared is work that several requests wait for. One of them began it, and the
// others' callers have to hear as well that retries of it were decided on: else
// each of them would send again what was sent again already. Safe for concurrent
// use.
type Shared struct{ decided atomic.Bool }

type sharedKey struct{}

// Share is for the work that begins with the returned context.
func Share(ctx context.Context) (context.Context, *Shared) {
	s := new(Shared)
	return context.WithValue(ctx, sharedKey{}, s), s
}

// Tell passes what was decided on to the caller of the request that ctx belongs
// to. It is for each request that waited, once the work has ended.
func (s *Shared) Tell(ctx context.Context) {
	if s.decided.Load() {
		Decide(ctx)
	}
}

// Decided tells whether the callee said so, given its trailer.
func Decided(trailer metadata.MD) bool { return len(trailer.Get(DecidedHeader)) > 0 }

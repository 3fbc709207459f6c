package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// traceparentSize is the length of version 00 of the W3C header:
// 00-<32 hex trace id>-<16 hex span id>-<2 hex flags>.
const traceparentSize = 55

// parseTraceparent reads the W3C Trace Context header (version 00, and later
// versions as far as they look the same). It does what the OpenTelemetry
// propagator does without its allocations: it runs on every call.
func parseTraceparent(h string) (trace.SpanContext, bool) {
	if len(h) < traceparentSize || h[2] != '-' || h[35] != '-' || h[52] != '-' {
		return trace.SpanContext{}, false
	}
	var version, flags [1]byte
	var traceID trace.TraceID
	var spanID trace.SpanID
	if !unhex(version[:], h[:2]) || !unhex(traceID[:], h[3:35]) || !unhex(spanID[:], h[36:52]) || !unhex(flags[:], h[53:55]) {
		return trace.SpanContext{}, false
	}
	switch {
	case version[0] == 0xff,
		version[0] == 0 && (len(h) != traceparentSize || flags[0] > 3),
		version[0] > 0 && len(h) > traceparentSize && h[traceparentSize] != '-',
		!traceID.IsValid(), !spanID.IsValid():
		return trace.SpanContext{}, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    traceID,
		SpanID:     spanID,
		TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled,
		Remote:     true,
	}), true
}

// unhex decodes lower-case hexadecimal only, as the specification demands.
func unhex(dst []byte, src string) bool {
	for i := range dst {
		high, low := nibble(src[2*i]), nibble(src[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// formatTraceparent is the header of a call that is not traced.
func formatTraceparent(sc trace.SpanContext) string {
	var b [traceparentSize]byte
	traceID, spanID := sc.TraceID(), sc.SpanID()
	copy(b[:], "00-")
	hex.Encode(b[3:35], traceID[:])
	b[35] = '-'
	hex.Encode(b[36:52], spanID[:])
	copy(b[52:], "-00")
	return string(b[:])
}

// newRoot is a fresh, not yet sampled identity for a call that came without.
// Trace ids are names, not secrets: math/rand/v2's global generator is seeded
// by the system and needs no lock.
func newRoot() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: newTraceID(), SpanID: newSpanID(), Remote: true})
}

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// sampleRoot asks the same sampler, about the same trace id, that the SDK will
// ask once it is entered: the decision is made early, not twice.
func sampleRoot(sampler sdktrace.Sampler, ctx context.Context, id trace.TraceID) bool {
	return sampler.ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: id}).Decision == sdktrace.RecordAndSample
}

// chosenID is the context key of a root's trace id that was sampled before the
// SDK was entered.
type chosenID struct{}

// identifiers gives the SDK the trace id that the decision was made about, and
// a new one where there was no decision.
type identifiers struct{}

func (identifiers) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if id, ok := ctx.Value(chosenID{}).(trace.TraceID); ok {
		return id, newSpanID()
	}
	return newTraceID(), newSpanID()
}

func (identifiers) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

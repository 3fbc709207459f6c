// Package breaker stops calls to a callee that fails or answers too slowly, and lets a few through after a while to see
// whether it is well again: the circuit breaker of M. Nygard, "Release It!", 2007, in the form of sony/gobreaker.
//
// There is one breaker for each callee. Closed, it passes all calls and watches them over the last ten seconds; when
// enough have come and too large a share has failed, it opens. Open, it refuses every call at once. After
// breaker.open_for it is half-open: a few calls are let through as probes. When all of them succeed it closes, when one
// fails it opens again.
package breaker

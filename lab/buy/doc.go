// Package buy makes one purchase as a person would and shows what it caused:
// purchase.go walks from sign-in to ticket under one root span, whole.go tells
// whether every service's part of the trace has arrived.
package buy

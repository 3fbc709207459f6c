// Package ratelimit is a rate limit that all replicas of a service keep together, in Redis: however many they are, no
// more calls come in than the limit says. The decision is that of package gcra, made by a script in Redis by the clock of
// Redis, for all limits that a call must keep in one round trip.
//
// Nobody waits for Redis longer than Patience. While it does not answer, each replica keeps its share of the limit by
// itself: calls go on, and no more than the limit come in then either, beyond a burst for each change from one to the
// other.
package ratelimit

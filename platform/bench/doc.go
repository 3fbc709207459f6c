// Package bench measures what the platform costs: CPU per call against bare grpc-go, the start of a replica, the memory
// of an idle one, and how far the capacity model is from theory. "make bench" runs it.
//
// Ratios are taken within one run, both sides in turn, so that they hold on a busy machine where absolute times do not.
package bench

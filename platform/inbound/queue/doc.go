// Package queue is the line in front of a replica's slots: as many calls are past it as there are slots, the others wait
// here, where they can be bounded, put in order, and refused before a slot is spent on them.
//
// In fifo calls are served in the order in which they came. newest-first does the same until the line has not been empty
// for long; then it serves the most urgent class first and of it the newest call, and keeps nobody waiting for longer than
// a service time or so: whoever has just come can still be answered in time, and who has waited for long has mostly given
// up (adaptive LIFO with CoDel's time-outs: B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015; K. Nichols and V. Jacobson,
// "Controlling Queue Delay", ACM Queue 10(5), 2012). Both refuse whom they cannot serve in time.
//
// line.go is the pure decision, Queue its adapter to clock and gRPC.
package queue

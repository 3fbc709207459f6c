// Package nodepool models the nodes that a mesh would run on: a scheduler that
// places pods by their CPU requests, a cluster autoscaler, and a provider that
// takes spot nodes back. Time is an argument: the package reads no clock, and the
// same steps lead to the same nodes.
package nodepool

// Package trace keeps the latest traces of a running mesh in memory and shows
// one as a tree. Store receives spans over OTLP, tree.go builds the tree from
// whatever spans came, and waterfall.go prints it for a terminal.
package trace

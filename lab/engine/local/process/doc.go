// Package process starts processes that cannot outlive the engine. Each is the
// leader of a process group of its own, so that a Ctrl-C in the terminal reaches
// the engine alone. On Linux the kernel kills it when the engine dies; on every
// system a ledger on disk lets the next engine find and end what one that was
// killed has left.
package process

// Package e2e drives the mesh as a user does: it runs bin/spillway, which runs
// every service as a process, and looks at what comes out. Its tests need the
// binaries of `make build` and are behind the build tag e2e.
package e2e

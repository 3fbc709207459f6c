// Package e2e drives the mesh as a user does: it runs bin/spillway, which runs
// every service as a process, and looks at what comes out. Those tests need the
// binaries of `make build` and are behind the build tag e2e. Behind the build tag
// cluster are those that do the same in a Kubernetes, for scripts/test-cluster. The
// files that both run are checked without a tag.
package e2e

//go:build !cluster

package kube

import "go.uber.org/goleak"

// shared has nothing to let pass: without a cluster no test keeps a connection.
func shared() []goleak.Option { return nil }

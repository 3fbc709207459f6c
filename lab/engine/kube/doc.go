// Package kube steers a mesh that runs in a namespace of a Kubernetes cluster:
// it applies manifests, reads workloads, autoscalers and events, reaches
// Services and pods by port-forward, and writes faults and knobs where the
// mesh's control plane looks for them.
//
// A Session serves the same APIs that the local engine serves, in the program
// itself, so that whoever steers a mesh need not know where it runs. Nothing is
// touched in a namespace that is not marked as a lab.
package kube

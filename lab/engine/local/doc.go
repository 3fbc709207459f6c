// Package local runs the mesh on one machine: it renders an overlay of k8s/ and
// gives every Deployment's replicas a pod's life as processes.
//
// What means here what it means in Kubernetes: replicas, rolling updates with
// maxSurge and maxUnavailable, Recreate, minReadySeconds; environment with
// valueFrom, envFrom and $(NAME); variables that tell of Services, and ClusterIPs
// that choose a replica for each connection (package frontdoor); startup, readiness
// and liveness probes; restart in place; pods that are pending until a modelled node
// has room for their request (package nodepool); deletion, where the endpoint's
// removal, the preStop sleep and the grace period begin at the same moment. What
// differs, on purpose: a container that is waited for is probed every 20 ms for
// success, and its gRPC probes share a connection (package probe); the back-off of a
// crash is on a person's scale (package backoff). What an overlay says beyond that
// is reported at the start (package manifest).
//
// One mutex, Engine.mu, guards what is wanted and what runs. One goroutine, the
// controller, compares the two and acts; every pod has a goroutine for its life.
package local

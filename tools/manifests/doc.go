// Package manifests reads every overlay of k8s/ with every component, as a cluster
// would: kustomize renders them, Kubernetes' own types decode them strictly, and
// its tests hold what must be true of all objects whatever was combined.
package manifests

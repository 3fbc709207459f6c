// Package manifest reads the description of the mesh: it renders an overlay of
// k8s/ with kustomize and decodes the objects strictly. What the local engine
// acts on is one list, in fields.go; everything else that an overlay says is
// reported, with the reason, and never dropped without a word.
package manifest

package mesh

// How a Service of Kubernetes says what it is in the mesh.
const (
	// PortName is the name of the port that callers reach over the mesh. A Service without it is not in the mesh.
	PortName = "grpc"
	// PolicyAnnotation says how callers choose among endpoints: a Policy.
	PolicyAnnotation = "spillway.dev/policy"
	// HashHeaderAnnotation is the metadata key whose value decides under RingHash.
	HashHeaderAnnotation = "spillway.dev/hash-header"
)

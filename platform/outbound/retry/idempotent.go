package retry

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// methods knows which methods may be sent twice. The proto files say so, in
// idempotency_level; nobody lists methods by hand.
type methods struct {
	files *protoregistry.Files
	known sync.Map // full method name → bool
}

// idempotent tells it of a full method name such as
// "/spillway.inventory.v1.InventoryService/Hold". What the registry does not
// know is taken for not idempotent.
func (m *methods) idempotent(fullMethod string) bool {
	if known, ok := m.known.Load(fullMethod); ok {
		return known.(bool)
	}
	allowed := m.look(fullMethod)
	m.known.Store(fullMethod, allowed)
	return allowed
}

func (m *methods) look(fullMethod string) bool {
	name := strings.ReplaceAll(strings.TrimPrefix(fullMethod, "/"), "/", ".")
	found, err := m.files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return false
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return false
	}
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	if !ok {
		return false
	}
	switch options.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS, descriptorpb.MethodOptions_IDEMPOTENT:
		return true
	}
	return false
}

// Package idempotency knows which methods may be sent more than once. The proto
// files say so, in idempotency_level; nobody lists methods by hand.
package idempotency

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Level is what a method's contract says of being sent more than once.
type Level = descriptorpb.MethodOptions_IdempotencyLevel

// Contract reads levels out of the descriptors that a process is linked with.
// Safe for concurrent use; a method is looked up once.
type Contract struct {
	files *protoregistry.Files
	known sync.Map // full method name → Level
}

// New returns the contract of all methods in files, such as
// protoregistry.GlobalFiles.
func New(files *protoregistry.Files) *Contract { return &Contract{files: files} }

// Repeatable tells whether a call that failed may be sent again, of a full
// method name such as "/spillway.inventory.v1.InventoryService/Hold". What the
// registry does not know may not.
func (c *Contract) Repeatable(fullMethod string) bool {
	switch c.level(fullMethod) {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS, descriptorpb.MethodOptions_IDEMPOTENT:
		return true
	}
	return false
}

// Reads tells whether a method has no side effects, so that a call may even be
// sent twice at the same time.
func (c *Contract) Reads(fullMethod string) bool {
	return c.level(fullMethod) == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

func (c *Contract) level(fullMethod string) Level {
	if known, ok := c.known.Load(fullMethod); ok {
		return known.(Level)
	}
	level := c.look(fullMethod)
	c.known.Store(fullMethod, level)
	return level
}

func (c *Contract) look(fullMethod string) Level {
	const unknown = descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
	name := strings.ReplaceAll(strings.TrimPrefix(fullMethod, "/"), "/", ".")
	found, err := c.files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return unknown
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return unknown
	}
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	if !ok {
		return unknown
	}
	return options.GetIdempotencyLevel()
}

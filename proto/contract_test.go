// Package proto_test checks rules about the contracts that buf has no lint for.
package proto_test

import (
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "spillway.dev/proto/gen/spillway/bank/v1"
	_ "spillway.dev/proto/gen/spillway/catalog/v1"
	_ "spillway.dev/proto/gen/spillway/engine/v1"
	_ "spillway.dev/proto/gen/spillway/gateway/v1"
	_ "spillway.dev/proto/gen/spillway/inventory/v1"
	_ "spillway.dev/proto/gen/spillway/order/v1"
	_ "spillway.dev/proto/gen/spillway/payment/v1"
	_ "spillway.dev/proto/gen/spillway/session/v1"
	_ "spillway.dev/proto/gen/spillway/ticketing/v1"
)

// secrets are the fields that must never be printed.
var secrets = map[protoreflect.Name]bool{"token": true, "previous_token": true, "card_token": true}

func eachMethod(t *testing.T, visit func(protoreflect.MethodDescriptor)) {
	t.Helper()
	methods := 0
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "spillway.") {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				methods++
				visit(service.Methods().Get(j))
			}
		}
		return true
	})
	if methods < 30 {
		t.Fatalf("found %d methods: are the generated packages imported?", methods)
	}
}

// The retry policy reads idempotency_level, so each RPC must have decided.
func TestEveryMethodDeclaresItsIdempotencyLevel(t *testing.T) {
	eachMethod(t, func(m protoreflect.MethodDescriptor) {
		options := m.Options().(*descriptorpb.MethodOptions)
		if options == nil || options.IdempotencyLevel == nil {
			t.Errorf("%s declares no idempotency_level", m.FullName())
		}
	})
}

func TestEveryGatewayMethodHasAnHTTPAnnotation(t *testing.T) {
	eachMethod(t, func(m protoreflect.MethodDescriptor) {
		if m.ParentFile().Package() == "spillway.gateway.v1" && !proto.HasExtension(m.Options(), annotations.E_Http) {
			t.Errorf("%s has no google.api.http annotation", m.FullName())
		}
	})
}

// A string, number or list that comes from a caller is bounded by a rule.
func TestEveryRequestFieldHasARule(t *testing.T) {
	free := map[protoreflect.Kind]bool{protoreflect.BoolKind: true}
	eachMethod(t, func(m protoreflect.MethodDescriptor) {
		fields := m.Input().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			if free[field.Kind()] || proto.HasExtension(field.Options(), validate.E_Field) {
				continue
			}
			t.Errorf("%s has no (buf.validate.field) rule", field.FullName())
		}
	})
}

func TestSecretFieldsAreMarked(t *testing.T) {
	marked := 0
	eachMethod(t, func(m protoreflect.MethodDescriptor) {
		for _, message := range []protoreflect.MessageDescriptor{m.Input(), m.Output()} {
			fields := message.Fields()
			for i := range fields.Len() {
				field := fields.Get(i)
				options, _ := field.Options().(*descriptorpb.FieldOptions)
				if secrets[field.Name()] != options.GetDebugRedact() {
					t.Errorf("%s: debug_redact is %v", field.FullName(), options.GetDebugRedact())
				}
				if options.GetDebugRedact() {
					marked++
				}
			}
		}
	})
	if marked == 0 {
		t.Error("no field is marked debug_redact")
	}
}

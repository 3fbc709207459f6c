// Package validation holds requests to the rules that their proto files state
// (protovalidate), before anything is done for them.
package validation

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"spillway.dev/platform/problem"
)

// Rules checks messages. Safe for concurrent use; the rules of a message type
// are compiled at its first use, which takes some milliseconds, or by Warm.
type Rules struct {
	validator func() (protovalidate.Validator, error)
}

// New prepares an empty set of compiled rules. It does not wait for the rule
// engine, whose start would be a third of a replica's.
func New() *Rules {
	r := &Rules{sync.OnceValues(func() (protovalidate.Validator, error) { return protovalidate.New() })}
	go func() { _, _ = r.validator() }()
	return r
}

// Warm compiles the rules of all requests of a server's services, so that no
// caller waits for that. Rules that do not compile are an error.
func (r *Rules) Warm(services map[string]grpc.ServiceInfo) error {
	v, err := r.validator()
	if err != nil {
		return fmt.Errorf("validation: %w", err)
	}
	for name := range services {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			continue // not described in proto, so without rules
		}
		service, ok := found.(protoreflect.ServiceDescriptor)
		if !ok {
			continue
		}
		for i := range service.Methods().Len() {
			input := service.Methods().Get(i).Input()
			request, err := protoregistry.GlobalTypes.FindMessageByName(input.FullName())
			if err != nil {
				continue
			}
			err = v.Validate(request.Zero().Interface())
			if broken, ok := errors.AsType[*protovalidate.CompilationError](err); ok {
				return fmt.Errorf("validation: the rules of %s: %w", input.FullName(), broken)
			}
		}
	}
	return nil
}

// Check returns nil for a message that keeps its rules, and else an error whose
// status is INVALID_ARGUMENT with a google.rpc.BadRequest naming each field.
// What a field marked debug_redact holds is not told.
func (r *Rules) Check(message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	v, err := r.validator()
	if err == nil {
		err = v.Validate(m)
	}
	if err == nil {
		return nil
	}
	broken, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		// The rules themselves do not compile or run: our fault, not the caller's.
		return problem.New(codes.Internal, problem.Internal, "internal error; the server's log has the cause").Because(err)
	}
	return refuse(broken)
}

func refuse(broken *protovalidate.ValidationError) error {
	request := &errdetails.BadRequest{}
	for _, v := range broken.Violations {
		request.FieldViolations = append(request.FieldViolations, describe(v))
	}
	first := request.FieldViolations[0]
	st := problem.New(codes.InvalidArgument, problem.InvalidArgument, "%s: %s", first.GetField(), first.GetDescription()).
		With("field", first.GetField()).GRPCStatus()
	full, err := st.WithDetails(request)
	if err != nil {
		return st.Err()
	}
	return full.Err()
}

func describe(v *protovalidate.Violation) *errdetails.BadRequest_FieldViolation {
	said := &errdetails.BadRequest_FieldViolation{
		Field:       protovalidate.FieldPathString(v.Proto.GetField()),
		Description: v.Proto.GetMessage(),
		Reason:      "INVALID_ARGUMENT",
	}
	if v.FieldDescriptor != nil && redacted(v.FieldDescriptor) {
		// A rule's message may quote the value; its name does not.
		said.Description = "breaks the rule " + v.Proto.GetRuleId()
	}
	return said
}

func redacted(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}

// Unary is the interceptor of unary calls.
func (r *Rules) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := r.Check(req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// Stream is the interceptor of streams: each message is checked as it is read.
func (r *Rules) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, checked{ss, r})
}

type checked struct {
	grpc.ServerStream
	rules *Rules
}

func (s checked) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.rules.Check(m)
}

// Package identity carries the name of the calling service from hop to hop as gRPC metadata.
//
// The outbound chain puts the service's own name on every call (Outgoing), the inbound chain reads it (FromIncoming), and
// handlers, logs and metrics ask Caller. The name is a label, not a proof: it is worth what the network between the
// services is worth. Where calls come in from outside the mesh it is worth nothing, so an edge service sets
// boot.Spec.Edge, and every incoming name is dropped (Outside) before the chain sees it.
package identity

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/problem"
)

// Header is the metadata key; one value, the caller's service name.
const Header = "x-spillway-caller"

// External is the caller of every call that names none. No service may have this name.
const External = "external"

type key struct{}

// Valid tells whether name may be a service's name: a DNS label (lower-case letters, digits and inner hyphens, a letter
// first, at most 63 bytes) other than External. Names become metric labels, so nothing else is let in.
func Valid(name string) bool {
	if len(name) == 0 || len(name) > 63 || name == External || name[len(name)-1] == '-' {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// Outgoing returns a context whose calls name service as their caller, in place of whatever name it carried before.
func Outgoing(ctx context.Context, service string) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx) // a copy
	if !ok {
		md = metadata.MD{}
	}
	md.Set(Header, service)
	return metadata.NewOutgoingContext(ctx, md)
}

// FromIncoming reads the caller from a server's context and returns the context that Caller answers from. A call
// without a name is External. A name that is malformed or given more than once is refused with InvalidArgument,
// CALLER_INVALID: it comes from a fault or from forgery, and neither should pass for a neighbour.
func FromIncoming(ctx context.Context) (context.Context, error) {
	values := metadata.ValueFromIncomingContext(ctx, Header)
	switch {
	case len(values) == 0:
		return context.WithValue(ctx, key{}, External), nil
	case len(values) == 1 && Valid(values[0]):
		return context.WithValue(ctx, key{}, values[0]), nil
	}
	return ctx, problem.New(codes.InvalidArgument, problem.CallerInvalid,
		"metadata %s must hold one service name (lower-case letters, digits, inner hyphens)", Header)
}

// Caller names the service that made the call being handled; External when it named none or ctx is no handler's.
func Caller(ctx context.Context) string {
	if name, ok := ctx.Value(key{}).(string); ok {
		return name
	}
	return External
}

// Outside returns a server's context without any caller name that came with the call, so that FromIncoming and every
// later reader finds none. Other metadata stays.
func Outside(ctx context.Context) context.Context {
	if len(metadata.ValueFromIncomingContext(ctx, Header)) == 0 {
		return ctx
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	md.Delete(Header)
	return metadata.NewIncomingContext(ctx, md)
}

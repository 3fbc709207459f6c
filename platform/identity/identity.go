// Package identity carries the name of the calling service from hop to hop as gRPC metadata.
//
// The outbound chain puts the service's own name on every call (Outgoing), the inbound chain reads it (FromIncoming), and
// handlers, logs and metrics ask Caller. By itself the name is a label, not a proof: it is worth what the network between
// the services is worth. Under mutual TLS (platform/tlsfiles) it must be one of the DNS names in the caller's certificate,
// and is taken from there when a call names nobody. Where calls come in from outside the mesh the name is worth nothing,
// so an edge service sets boot.Spec.Edge, and every incoming name is dropped (Outside) before the chain sees it.
package identity

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

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
// without a name comes from the first service that its connection's certificate is for; without one it is External. A name
// that is malformed, given more than once, or not the certificate's is refused with InvalidArgument, CALLER_INVALID: it
// comes from a fault or from forgery, and neither should pass for a neighbour.
func FromIncoming(ctx context.Context) (context.Context, error) {
	values := metadata.ValueFromIncomingContext(ctx, Header)
	proven, shown := certified(ctx)
	caller := External
	switch {
	case len(values) == 0:
		if i := slices.IndexFunc(proven, Valid); i >= 0 {
			caller = proven[i]
		}
	case len(values) > 1 || !Valid(values[0]):
		return ctx, problem.New(codes.InvalidArgument, problem.CallerInvalid,
			"metadata %s must hold one service name (lower-case letters, digits, inner hyphens)", Header)
	case shown && !slices.Contains(proven, values[0]):
		return ctx, problem.New(codes.InvalidArgument, problem.CallerInvalid,
			"metadata %s names %s, and the caller's certificate is for %q", Header, values[0], proven)
	default:
		caller = values[0]
	}
	return context.WithValue(ctx, key{}, caller), nil
}

// certified lists the DNS names of the certificate that the other end of a call's connection has shown, and tells whether
// it has shown one that was verified.
func certified(ctx context.Context) (names []string, shown bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, false
	}
	return info.State.VerifiedChains[0][0].DNSNames, true
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

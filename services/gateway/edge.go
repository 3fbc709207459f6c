package main

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// maxDeadline is the longest time a caller from outside may ask for. Someone who asks for an hour would otherwise keep
// slots and connections of the whole mesh for that long.
const maxDeadline = 10 * time.Second

// edge registers a service so that its calls are brought within the edge's rules before the server's chain sees them:
// metadata that only services may send is dropped, deadlines are capped, and the call gets its priority.
type edge struct{ grpc.ServiceRegistrar }

// RegisterService registers a copy of desc with every unary handler wrapped. GatewayService has no streams.
func (e edge) RegisterService(desc *grpc.ServiceDesc, impl any) {
	wrapped := *desc
	wrapped.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		wrapped.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: within(m.Handler)}
	}
	e.ServiceRegistrar.RegisterService(&wrapped, impl)
}

func within(next grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		ctx = outside(ctx)
		// Without a deadline the chain sets its default, which is shorter; a cap here would hide that there was none.
		if _, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, maxDeadline)
			defer cancel()
		}
		return next(srv, ctx, dec, prioritized(chain))
	}
}

// meshPrefix begins every metadata key by which services of the mesh speak to each other, such as who calls and how urgent
// it is. From outside they are forgeries.
const meshPrefix = "x-spillway-"

// outside returns ctx without the mesh's own metadata. boot has dropped the caller's name already; this holds for whatever
// the mesh comes to say to itself later.
func outside(ctx context.Context) context.Context {
	md, ok := metadata.FromIncomingContext(ctx) // a copy
	if !ok {
		return ctx
	}
	found := false
	for k := range md {
		if strings.HasPrefix(k, meshPrefix) {
			delete(md, k)
			found = true
		}
	}
	if !found {
		return ctx
	}
	return metadata.NewIncomingContext(ctx, md)
}

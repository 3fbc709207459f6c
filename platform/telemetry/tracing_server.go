package telemetry

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
)

func (t *tracing) serveUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if !traced(ctx, info.FullMethod) {
		return handler(ctx, req)
	}
	begun, ctx := Arrival(ctx), t.enterServer(ctx, info.FullMethod)
	resp, err := handler(ctx, req)
	finish(t.server, ctx, begun, err)
	return resp, err
}

func (t *tracing) serveStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := ss.Context()
	if !traced(ctx, info.FullMethod) {
		return handler(srv, ss)
	}
	begun, ctx := Arrival(ctx), t.enterServer(ctx, info.FullMethod)
	err := handler(srv, tracedServerStream{ss, ctx})
	finish(t.server, ctx, begun, err)
	return err
}

func (t *tracing) enterServer(ctx context.Context, method string) context.Context {
	ctx = t.server.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: method})
	if p, ok := peer.FromContext(ctx); ok {
		t.server.HandleRPC(ctx, &stats.InHeader{FullMethod: method, RemoteAddr: p.Addr, LocalAddr: p.LocalAddr})
	}
	return ctx
}

type tracedServerStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s tracedServerStream) Context() context.Context { return s.ctx }

package telemetry

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
)

// depart decides whether a call that goes out is traced, and sees to it that
// its trace id travels if it is not.
func (t *tracing) depart(ctx context.Context, method string) (_ context.Context, traced bool) {
	if Infrastructure(method) {
		return ctx, false
	}
	current := trace.SpanContextFromContext(ctx)
	if current.IsSampled() {
		return ctx, true
	}
	if !current.IsValid() {
		current = newRoot()
		if sampleRoot(t.sampler, ctx, current.TraceID()) {
			return context.WithValue(ctx, chosenID{}, current.TraceID()), true
		}
	}
	return metadata.AppendToOutgoingContext(ctx, traceparentKey, formatTraceparent(current)), false
}

func (t *tracing) callUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, traced := t.depart(ctx, method)
	if !traced {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	begun, ctx := t.enterClient(ctx, method)
	var to peer.Peer
	err := invoker(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Peer(&to))...)
	t.leaveClient(ctx, begun, &to, err)
	return err
}

func (t *tracing) callStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, traced := t.depart(ctx, method)
	if !traced {
		return streamer(ctx, desc, cc, method, opts...)
	}
	begun, ctx := t.enterClient(ctx, method)
	stream, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		t.leaveClient(ctx, begun, &peer.Peer{}, err)
		return nil, err
	}
	s := &tracedClientStream{ClientStream: stream, oneAnswer: !desc.ServerStreams}
	s.leave = func(err error) {
		s.once.Do(func() {
			to, _ := peer.FromContext(stream.Context())
			if to == nil {
				to = &peer.Peer{}
			}
			t.leaveClient(ctx, begun, to, err)
		})
	}
	// Whoever gives a stream up by cancelling does not read its end.
	s.forget = context.AfterFunc(ctx, func() { s.leave(context.Cause(ctx)) })
	return s, nil
}

func (t *tracing) enterClient(ctx context.Context, method string) (time.Time, context.Context) {
	begun := time.Now()
	ctx = t.client.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: method})
	t.client.HandleRPC(ctx, &stats.Begin{Client: true, BeginTime: begun})
	return begun, ctx
}

func (t *tracing) leaveClient(ctx context.Context, begun time.Time, to *peer.Peer, err error) {
	if to.Addr != nil {
		t.client.HandleRPC(ctx, &stats.OutHeader{Client: true, RemoteAddr: to.Addr, LocalAddr: to.LocalAddr})
	}
	finish(t.client, ctx, begun, err)
}

// tracedClientStream ends the span when the stream ends, which only shows in
// what is read from it.
type tracedClientStream struct {
	grpc.ClientStream
	oneAnswer bool
	once      sync.Once
	leave     func(error)
	forget    func() bool
}

func (s *tracedClientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case errors.Is(err, io.EOF), err == nil && s.oneAnswer:
		s.forget()
		s.leave(nil)
	case err != nil:
		s.forget()
		s.leave(err)
	}
	return err
}

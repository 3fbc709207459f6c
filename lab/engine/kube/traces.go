package kube

import (
	"context"
	"errors"
	"io"
	"strings"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// Jaeger's query service, and the method by which it tells a trace as OTLP
// (jaegertracing/jaeger-idl, proto/api_v3/query_service.proto). Of its request the
// first field, a string, is the trace's id: on the wire that is a StringValue.
const (
	jaeger        = "jaeger"
	jaegerQuery   = "16685"
	jaegerGet     = "/jaeger.api_v3.QueryService/GetTrace"
	mostTraceSize = 64 << 20
	notFound      = "trace not found"
)

// GetTrace implements EngineService: it asks the cluster's Jaeger.
func (e engine) GetTrace(ctx context.Context, req *enginev1.GetTraceRequest) (*enginev1.GetTraceResponse, error) {
	address, err := e.forward(ctx, observability, jaeger, jaegerQuery)
	if err != nil {
		return nil, err
	}
	if address == "" {
		return nil, status.Errorf(codes.FailedPrecondition, "namespace %s of the cluster has no Service %s, which would have the trace", observability, jaeger)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostTraceSize)))
	if err != nil {
		return nil, status.Errorf(codes.Internal, "reach Jaeger: %v", err)
	}
	defer conn.Close()
	return askJaeger(ctx, conn, req.GetTraceId())
}

// askJaeger asks for one trace.
func askJaeger(ctx context.Context, conn *grpc.ClientConn, id string) (*enginev1.GetTraceResponse, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, jaegerGet)
	if err == nil {
		err = stream.SendMsg(wrapperspb.String(id))
	}
	if err == nil {
		err = stream.CloseSend()
	}
	resp := &enginev1.GetTraceResponse{}
	for err == nil {
		var chunk tracev1.TracesData
		if err = stream.RecvMsg(&chunk); err == nil {
			resp.ResourceSpans = append(resp.ResourceSpans, chunk.GetResourceSpans()...)
		}
	}
	// Jaeger 1.62 says that it has no such trace with the code UNKNOWN.
	unknown := status.Code(err) == codes.NotFound || status.Code(err) == codes.Unknown && strings.Contains(err.Error(), notFound)
	switch {
	case unknown, errors.Is(err, io.EOF) && len(resp.GetResourceSpans()) == 0:
		return nil, status.Errorf(codes.NotFound, "Jaeger has no trace %s yet", id)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return resp, nil
}

// ListTraces implements EngineService: it is Jaeger's own work.
func (e engine) ListTraces(context.Context, *enginev1.ListTracesRequest) (*enginev1.ListTracesResponse, error) {
	return nil, status.Errorf(codes.Unimplemented,
		"a cluster's traces are listed by its Jaeger: `kubectl%s --namespace %s port-forward service/%s 16686` and open http://127.0.0.1:16686", contextFlag(e.context), observability, jaeger)
}

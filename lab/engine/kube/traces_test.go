package kube

import (
	"net"
	"testing"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestATraceIsAskedOfJaegerAsItsAPISays(t *testing.T) {
	// Jaeger without its code: a method by its name, its request by its field
	// numbers, its answer in chunks of OTLP.
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(stream); method != "/jaeger.api_v3.QueryService/GetTrace" {
			return status.Errorf(codes.Unimplemented, "no method %s", method)
		}
		var id wrapperspb.StringValue
		if err := stream.RecvMsg(&id); err != nil {
			return err
		}
		if id.GetValue() != "known" {
			return status.Error(codes.Unknown, "cannot retrieve trace: trace not found") // Jaeger 1.62
		}
		for _, name := range []string{"a", "b"} {
			chunk := &tracev1.TracesData{ResourceSpans: []*tracev1.ResourceSpans{{ScopeSpans: []*tracev1.ScopeSpans{{
				Scope: &commonv1.InstrumentationScope{Name: "test"}, Spans: []*tracev1.Span{{Name: name}},
			}}}}}
			if err := stream.SendMsg(chunk); err != nil {
				return err
			}
		}
		return nil
	}))
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	defer func() { server.Stop(); <-served }()
	conn, err := grpc.NewClient("passthrough:///"+lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got, err := askJaeger(t.Context(), conn, "known")
	if err != nil || len(got.GetResourceSpans()) != 2 {
		t.Errorf("the trace is %v, %v, want both chunks", got, err)
	}
	if _, err := askJaeger(t.Context(), conn, "other"); status.Code(err) != codes.NotFound {
		t.Errorf("a trace that is not there: %v, want NOT_FOUND", err)
	}
}

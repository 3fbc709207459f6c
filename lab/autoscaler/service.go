package autoscaler

import (
	"context"
	"encoding/json"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/apimachinery/pkg/runtime"

	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

// ListObjects implements AutoscalerService.
func (a *Autoscaler) ListObjects(_ context.Context, req *autoscalerv1.ListObjectsRequest) (*autoscalerv1.ListObjectsResponse, error) {
	var objects []runtime.Object
	switch req.GetKind() {
	case "HorizontalPodAutoscaler":
		for _, o := range a.HPAs() {
			objects = append(objects, o)
		}
	case "Deployment":
		for _, o := range a.cluster.Snapshot().Deployments {
			objects = append(objects, o)
		}
	case "Pod":
		for _, o := range a.cluster.Snapshot().Pods {
			objects = append(objects, o)
		}
	case "Node":
		for _, o := range a.cluster.Snapshot().Nodes {
			objects = append(objects, o)
		}
	default:
		return nil, status.Errorf(codes.InvalidArgument, "kind %q is not here: ask for HorizontalPodAutoscaler, Deployment, Pod or Node", req.GetKind())
	}
	resp := &autoscalerv1.ListObjectsResponse{}
	for _, o := range objects {
		text, err := json.Marshal(o)
		if err != nil {
			return nil, status.Errorf(codes.Internal, "%s as JSON: %v", req.GetKind(), err)
		}
		resp.Objects = append(resp.Objects, string(text))
	}
	return resp, nil
}

// StreamEvents implements AutoscalerService.
func (a *Autoscaler) StreamEvents(req *autoscalerv1.StreamEventsRequest, stream grpc.ServerStreamingServer[autoscalerv1.StreamEventsResponse]) error {
	var next uint64
	for {
		events, after, more := a.events.After(next)
		next = after
		for _, e := range events {
			if req.GetName() != "" && req.GetName() != e.Name {
				continue
			}
			err := stream.Send(&autoscalerv1.StreamEventsResponse{
				At: timestamppb.New(e.At), Type: e.Type, Reason: e.Reason, Kind: e.Kind, Name: e.Name, Message: e.Message,
			})
			if err != nil {
				return err
			}
		}
		if !req.GetFollow() {
			return nil
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-more:
		}
	}
}

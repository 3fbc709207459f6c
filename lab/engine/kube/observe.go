package kube

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

// resources are the kinds that can be listed, and whether they are in a namespace.
var resources = map[string]struct {
	schema.GroupVersionResource
	everywhere bool
}{
	"HorizontalPodAutoscaler": {schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}, false},
	"Deployment":              {schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, false},
	"Pod":                     {schema.GroupVersionResource{Version: "v1", Resource: "pods"}, false},
	"Node":                    {schema.GroupVersionResource{Version: "v1", Resource: "nodes"}, true},
}

// observer is AutoscalerService over a cluster: its own autoscaler's.
type observer struct {
	autoscalerv1.UnimplementedAutoscalerServiceServer
	*Session
}

// ListObjects implements AutoscalerService.
func (o observer) ListObjects(ctx context.Context, req *autoscalerv1.ListObjectsRequest) (*autoscalerv1.ListObjectsResponse, error) {
	kind, known := resources[req.GetKind()]
	if !known {
		return nil, status.Errorf(codes.InvalidArgument, "kind %q is not here: ask for HorizontalPodAutoscaler, Deployment, Pod or Node", req.GetKind())
	}
	from := o.objects.Resource(kind.GroupVersionResource).Namespace(o.namespace)
	if kind.everywhere {
		from = o.objects.Resource(kind.GroupVersionResource)
	}
	list, err := from.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, answer(err)
	}
	resp := &autoscalerv1.ListObjectsResponse{}
	for _, item := range list.Items {
		item.SetManagedFields(nil) // who wrote which field: longer than all the rest
		text, err := json.Marshal(item.Object)
		if err != nil {
			return nil, status.Errorf(codes.Internal, "%s as JSON: %v", req.GetKind(), err)
		}
		resp.Objects = append(resp.Objects, string(text))
	}
	return resp, nil
}

// told turns events of the API server into those that are told, in order of time:
// those of autoscalers and Deployments, or of those by one name.
func told(events []corev1.Event, name string) []*autoscalerv1.StreamEventsResponse {
	var out []*autoscalerv1.StreamEventsResponse
	for _, e := range events {
		kind := e.InvolvedObject.Kind
		if kind != "HorizontalPodAutoscaler" && kind != "Deployment" || name != "" && e.InvolvedObject.Name != name {
			continue
		}
		out = append(out, &autoscalerv1.StreamEventsResponse{
			At: timestamppb.New(when(e)), Type: e.Type, Reason: e.Reason, Kind: kind, Name: e.InvolvedObject.Name, Message: e.Message,
		})
	}
	slices.SortStableFunc(out, func(a, b *autoscalerv1.StreamEventsResponse) int {
		return a.GetAt().AsTime().Compare(b.GetAt().AsTime())
	})
	return out
}

// when is the last time that an event was seen.
func when(e corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// StreamEvents implements AutoscalerService. An event that is seen again is told
// again when it is followed.
func (o observer) StreamEvents(req *autoscalerv1.StreamEventsRequest, stream grpc.ServerStreamingServer[autoscalerv1.StreamEventsResponse]) error {
	events := o.client.CoreV1().Events(o.namespace)
	list, err := events.List(stream.Context(), metav1.ListOptions{})
	if err != nil {
		return answer(err)
	}
	send := func(all []corev1.Event) error {
		for _, e := range told(all, req.GetName()) {
			if err := stream.Send(e); err != nil {
				return err
			}
		}
		return nil
	}
	if err := send(list.Items); err != nil || !req.GetFollow() {
		return err
	}
	watch, err := events.Watch(stream.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return answer(err)
	}
	defer watch.Stop()
	for change := range watch.ResultChan() {
		if e, ok := change.Object.(*corev1.Event); ok && change.Type != "DELETED" {
			if err := send([]corev1.Event{*e}); err != nil {
				return err
			}
		}
	}
	if err := stream.Context().Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, "the API server ended the watch of events; ask again")
}

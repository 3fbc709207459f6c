package mesh

import (
	"context"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nackPause is how long a stream waits after its client has refused a resource. Without it the library answers the
// refusal with the same resource at once, some 12,000 times a second.
const nackPause = 500 * time.Millisecond

// streams is the ADS service of one Serve: the library's state-of-the-world server, the cache it asks (the view of
// the caller), and the callbacks by which it is watched.
type streams struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	ctx    context.Context // of the Serve: the library's callbacks bring none
	plane  *ControlPlane
	server sotw.Server
}

var (
	_ cache.ConfigWatcher = (*streams)(nil)
	_ sotw.Callbacks      = (*streams)(nil)
)

func newStreams(ctx context.Context, plane *ControlPlane) *streams {
	s := &streams{ctx: ctx, plane: plane}
	// Ordered: responses leave in the order of pushOrder.
	s.server = sotw.NewServer(ctx, s, s, sotw.WithOrderedADS())
	return s
}

// StreamAggregatedResources implements the service.
func (s *streams) StreamAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.server.StreamHandler(stream, resource.AnyType)
}

// CreateWatch implements cache.ConfigWatcher.
func (s *streams) CreateWatch(request *cache.Request, sub cache.Subscription, responses chan cache.Response) (func(), error) {
	answers, err := s.plane.viewFor(request.GetNode(), request.GetTypeUrl(), sub.SubscribedResources())
	if err != nil {
		return nil, err
	}
	return answers.CreateWatch(request, sub, responses)
}

// CreateDeltaWatch implements cache.ConfigWatcher. gRPC's clients do not use the delta protocol.
func (*streams) CreateDeltaWatch(*cache.DeltaRequest, cache.Subscription, chan cache.DeltaResponse) (func(), error) {
	return nil, status.Error(codes.Unimplemented, "the delta protocol is not served")
}

// OnStreamOpen implements sotw.Callbacks.
func (s *streams) OnStreamOpen(context.Context, int64, string) error {
	s.plane.metrics.streams.Inc()
	return nil
}

// OnStreamClosed implements sotw.Callbacks.
func (s *streams) OnStreamClosed(int64, *corev3.Node) { s.plane.metrics.streams.Dec() }

// OnStreamRequest implements sotw.Callbacks: it slows down a client that refuses what it was sent.
func (s *streams) OnStreamRequest(_ int64, request *discoveryv3.DiscoveryRequest) error {
	refusal := request.GetErrorDetail()
	if refusal == nil {
		return nil
	}
	caller, kind := callerOf(request.GetNode()), shortType(request.GetTypeUrl())
	s.plane.metrics.nacks.WithLabelValues(caller, kind).Inc()
	s.plane.log.Error("a client refused a resource, it keeps the one it had",
		"caller", caller, "node", request.GetNode().GetId(), "type", kind, "error", refusal.GetMessage())
	pause := time.NewTimer(nackPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-s.ctx.Done():
	}
	return nil
}

// OnStreamResponse implements sotw.Callbacks.
func (s *streams) OnStreamResponse(_ context.Context, _ int64, request *discoveryv3.DiscoveryRequest, response *discoveryv3.DiscoveryResponse) {
	s.plane.metrics.pushed.WithLabelValues(shortType(request.GetTypeUrl())).Add(float64(len(response.GetResources())))
}

// callerOf returns the part of the node id before the slash.
func callerOf(node *corev3.Node) string {
	caller, _, _ := strings.Cut(node.GetId(), "/")
	return caller
}

// shortType returns the last part of a type URL: "Listener".
func shortType(url string) string {
	return url[strings.LastIndexByte(url, '.')+1:]
}

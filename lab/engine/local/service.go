package local

import (
	"context"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/lab/engine/local/logs"
	"spillway.dev/platform/mesh"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// maxReplicas bounds Scale, as its request says.
const maxReplicas = 100

// api is the engine as the command line sees it.
type api struct {
	enginev1.UnimplementedEngineServiceServer
	*Engine
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// GetInfo implements EngineService.
func (e api) GetInfo(context.Context, *enginev1.GetInfoRequest) (*enginev1.GetInfoResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ready := !e.stopping
	for _, d := range e.deployments {
		ready = ready && d.settled()
	}
	return &enginev1.GetInfoResponse{
		Pid:                int32(os.Getpid()),
		StartedAt:          timestamp(e.started),
		GatewayHttpUrl:     e.GatewayURL(),
		GatewayGrpcAddress: e.doorTo(mesh.PortName),
		RedisAddress:       e.redisAddr,
		RedisKind:          e.redisKind,
		NatsUrl:            e.natsURL,
		XdsAddress:         e.xdsAddr,
		OtlpAddress:        e.otlpAddr,
		StateDir:           e.dir.path,
		Ready:              ready,
		PrometheusUrl:      e.prometheus,
		Timelapse:          e.options.timelapse(),
	}, nil
}

// ListWorkloads implements EngineService. The control plane's process is listed
// last, as a workload of one replica.
func (e api) ListWorkloads(context.Context, *enginev1.ListWorkloadsRequest) (*enginev1.ListWorkloadsResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	response := &enginev1.ListWorkloadsResponse{}
	for _, d := range e.sorted() {
		ready, updated, _ := d.counts()
		w := &enginev1.Workload{Name: d.name, Desired: int32(d.wanted()), Ready: int32(ready), Updated: int32(updated)}
		for _, p := range d.pods {
			w.Replicas = append(w.Replicas, p.replica(now))
		}
		response.Workloads = append(response.Workloads, w)
	}
	response.Workloads = append(response.Workloads, e.conductor.workload())
	return response, nil
}

// workload tells about the control plane's process.
func (c *conductor) workload() *enginev1.Workload {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &enginev1.Replica{Name: conductorName, Phase: enginev1.ReplicaPhase_REPLICA_PHASE_WAITING, Restarts: c.restarts, Reason: c.last}
	w := &enginev1.Workload{Name: conductorName, Desired: 1, Updated: 1, Replicas: []*enginev1.Replica{r}}
	if c.now != nil {
		r.Phase, r.Ready, r.Pid, r.StartedAt = enginev1.ReplicaPhase_REPLICA_PHASE_RUNNING, true, int32(c.now.PID()), timestamp(c.since)
		r.Reason = ""
		w.Ready = 1
	}
	return w
}

// find returns a Deployment, or an error for the command line. Engine.mu is held.
func (e *Engine) find(name string) (*deployment, error) {
	d := e.deployments[name]
	switch {
	case name == conductorName:
		return nil, status.Error(codes.FailedPrecondition, "the conductor is the control plane's one process: it can be killed, and nothing else")
	case d == nil:
		return nil, status.Errorf(codes.NotFound, "no workload is called %q; `spillway ps` lists them", name)
	case e.stopping:
		return nil, status.Error(codes.FailedPrecondition, "the mesh is stopping")
	}
	return d, nil
}

// Scale implements EngineService. The number holds until the manifest's changes.
func (e api) Scale(_ context.Context, request *enginev1.ScaleRequest) (*enginev1.ScaleResponse, error) {
	previous, err := e.SetReplicas(request.GetWorkload(), int(request.GetReplicas()))
	if err != nil {
		return nil, err
	}
	return &enginev1.ScaleResponse{Previous: int32(previous)}, nil
}

// Restart implements EngineService.
func (e api) Restart(_ context.Context, request *enginev1.RestartRequest) (*enginev1.RestartResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, err := e.find(request.GetWorkload())
	if err != nil {
		return nil, err
	}
	d.restarted = time.Now().UTC().Format(time.RFC3339Nano)
	d.stamp()
	e.wakeUp()
	return &enginev1.RestartResponse{}, nil
}

// Down implements EngineService. It answers when nothing runs any more.
func (e api) Down(ctx context.Context, _ *enginev1.DownRequest) (*enginev1.DownResponse, error) {
	e.stopOnce.Do(func() { close(e.stop) })
	select {
	case <-e.down:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if e.downErr != nil {
		return nil, status.Errorf(codes.Aborted, "stopped, but: %v", e.downErr)
	}
	return &enginev1.DownResponse{}, nil
}

// StreamLogs implements EngineService.
func (e api) StreamLogs(request *enginev1.StreamLogsRequest, stream enginev1.EngineService_StreamLogsServer) error {
	name := request.GetName()
	e.mu.Lock()
	_, workload := e.deployments[name]
	e.mu.Unlock()
	if name != "" && !workload && !e.logs.Known(name) {
		return status.Errorf(codes.NotFound, "no workload or replica is called %q; `spillway ps` lists them", name)
	}
	send := func(l logs.Line) error {
		return stream.Send(&enginev1.StreamLogsResponse{Replica: l.Replica, Line: l.Text})
	}
	if request.GetFollow() {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		go func() {
			select {
			case <-e.down:
				cancel()
			case <-ctx.Done():
			}
		}()
		if err := e.logs.Follow(ctx, name, int(request.GetTail()), send); stream.Context().Err() == nil && ctx.Err() == nil {
			return err
		}
		return nil
	}
	for _, line := range e.logs.Tail(name, int(request.GetTail())) {
		if err := send(line); err != nil {
			return err
		}
	}
	return nil
}

// WatchEndpoints implements EngineService.
func (e api) WatchEndpoints(request *enginev1.WatchEndpointsRequest, stream enginev1.EngineService_WatchEndpointsServer) error {
	var last []string
	for first := true; ; first = false {
		e.mu.Lock()
		changed := e.changed
		addresses, known := e.meshEndpoints(request.GetService())
		e.mu.Unlock()
		if !known {
			return status.Errorf(codes.NotFound, "no service is called %q", request.GetService())
		}
		if first || !slices.Equal(last, addresses) {
			last = addresses
			if err := stream.Send(&enginev1.WatchEndpointsResponse{Addresses: addresses}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-e.down:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// meshEndpoints lists where new calls to a service go. Engine.mu is held.
func (e *Engine) meshEndpoints(name string) ([]string, bool) {
	for _, s := range e.manifests.Services {
		for _, p := range s.Spec.Ports {
			if s.Name == name && p.Name == mesh.PortName {
				return ready(e.endpoints(s, p)), true
			}
		}
	}
	return nil, false
}

// GetTrace implements EngineService.
func (e api) GetTrace(_ context.Context, request *enginev1.GetTraceRequest) (*enginev1.GetTraceResponse, error) {
	spans := e.options.Traces.Get(request.GetTraceId())
	if len(spans) == 0 {
		return nil, status.Errorf(codes.NotFound, "trace %q is not kept; `spillway traces` lists those that are", request.GetTraceId())
	}
	return &enginev1.GetTraceResponse{ResourceSpans: spans}, nil
}

// ListTraces implements EngineService.
func (e api) ListTraces(_ context.Context, request *enginev1.ListTracesRequest) (*enginev1.ListTracesResponse, error) {
	return &enginev1.ListTracesResponse{Traces: e.options.Traces.List(request.GetSlowest(), int(request.GetLimit()))}, nil
}

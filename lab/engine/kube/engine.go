package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// Where the mesh's addresses stand, and where Prometheus is.
const (
	meshConfig    = "mesh"
	observability = "observability"
	prometheus    = "prometheus"
)

// look is the time between two looks at the pods of a service that is watched.
const look = time.Second

// engine is EngineService over a cluster.
type engine struct {
	enginev1.UnimplementedEngineServiceServer
	*Session
}

// has tells whether there is a Service.
func (c *Cluster) has(ctx context.Context, namespace, service string) (bool, error) {
	_, err := c.client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, answer(err)
}

// place is a port of a Service.
type place struct{ namespace, service, port string }

// placeOf reads an address of the mesh's ConfigMap, such as "redis:6379",
// "nats://nats:4222", "dns:///conductor:18000" or "http://jaeger.observability:4317".
func placeOf(address, namespace string) (place, error) {
	rest := address
	if scheme, after, found := strings.Cut(address, "://"); found && scheme != "" {
		rest = strings.TrimLeft(after, "/")
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || host == "" || port == "" {
		return place{}, fmt.Errorf("%q is no address of a Service, such as redis:6379", address)
	}
	p := place{namespace: namespace, service: host, port: port}
	if service, rest, found := strings.Cut(host, "."); found {
		p.service = service
		p.namespace, _, _ = strings.Cut(rest, ".")
	}
	return p, nil
}

// GetInfo implements EngineService. Every address is a port of this machine's
// loopback, forwarded for as long as the session is open; empty when the cluster
// has no such Service.
func (e engine) GetInfo(ctx context.Context, _ *enginev1.GetInfoRequest) (*enginev1.GetInfoResponse, error) {
	info := &enginev1.GetInfoResponse{Timelapse: 1, Ready: true}
	s, err := e.read(ctx)
	if err != nil {
		return nil, answer(err)
	}
	for _, w := range s.workloads() {
		info.Ready = info.Ready && w.GetReady() >= w.GetDesired()
	}
	var errs []error
	reach := func(p place, to *string, format string) {
		address, err := e.forward(ctx, p.namespace, p.service, p.port)
		if err != nil {
			errs = append(errs, err)
		}
		if address != "" {
			*to = fmt.Sprintf(format, address)
		}
	}
	reach(place{e.namespace, "gateway", "http"}, &info.GatewayHttpUrl, "http://%s")
	reach(place{e.namespace, "gateway", "grpc"}, &info.GatewayGrpcAddress, "%s")
	reach(place{observability, prometheus, "9090"}, &info.PrometheusUrl, "http://%s")
	reach(place{e.namespace, controlPlane, controlPlanePort}, &info.XdsAddress, "%s")
	config, err := e.client.CoreV1().ConfigMaps(e.namespace).Get(ctx, meshConfig, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, answer(err)
	}
	if err == nil {
		for key, to := range map[string]struct {
			at     *string
			format string
		}{"redis": {&info.RedisAddress, "%s"}, "nats": {&info.NatsUrl, "nats://%s"}, "otlp": {&info.OtlpAddress, "%s"}} {
			p, err := placeOf(config.Data[key], e.namespace)
			if err != nil {
				errs = append(errs, fmt.Errorf("the ConfigMap %s of %s: %s: %w", meshConfig, e.Where(), key, err))
				continue
			}
			reach(p, to.at, to.format)
		}
	}
	info.RedisKind = "in the cluster"
	return info, answer(errors.Join(errs...))
}

// ListWorkloads implements EngineService. Addresses to call are those of pods,
// within the cluster; the admin address is forwarded to this machine.
func (e engine) ListWorkloads(ctx context.Context, _ *enginev1.ListWorkloadsRequest) (*enginev1.ListWorkloadsResponse, error) {
	s, err := e.read(ctx)
	if err != nil {
		return nil, answer(err)
	}
	workloads := s.workloads()
	for _, w := range workloads {
		for _, r := range w.GetReplicas() {
			if r.GetAdminAddress() == "" || !r.GetReady() {
				continue
			}
			if r.AdminAddress, err = e.forwardPod(r.GetName(), "admin"); err != nil {
				return nil, answer(err)
			}
		}
	}
	return &enginev1.ListWorkloadsResponse{Workloads: workloads}, nil
}

// forwardPod returns the loopback address of a named port of a pod.
func (s *Session) forwardPod(pod, port string) (string, error) {
	return s.forwards.listen("pod "+pod+":"+port, func(ctx context.Context) (string, string, int32, error) {
		p, err := s.client.CoreV1().Pods(s.namespace).Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return "", "", 0, err
		}
		number, err := containerPort(p, port)
		return s.namespace, pod, number, err
	})
}

// Scale implements EngineService.
func (e engine) Scale(ctx context.Context, req *enginev1.ScaleRequest) (*enginev1.ScaleResponse, error) {
	previous, err := e.SetReplicas(ctx, req.GetWorkload(), int(req.GetReplicas()))
	return &enginev1.ScaleResponse{Previous: int32(previous)}, err
}

// Kill implements EngineService.
func (e engine) Kill(ctx context.Context, req *enginev1.KillRequest) (*enginev1.KillResponse, error) {
	var killed []string
	var err error
	if req.GetReplica() == "" {
		s, readErr := e.read(ctx)
		if readErr != nil {
			return nil, answer(readErr)
		}
		killed, err = e.Cluster.Kill(ctx, req.GetWorkload(), len(s.pods))
	} else {
		killed, err = e.KillOne(ctx, req.GetWorkload(), req.GetReplica())
	}
	return &enginev1.KillResponse{Killed: killed}, err
}

// Restart implements EngineService.
func (e engine) Restart(ctx context.Context, req *enginev1.RestartRequest) (*enginev1.RestartResponse, error) {
	return &enginev1.RestartResponse{}, e.Cluster.Restart(ctx, req.GetWorkload())
}

// Pause implements EngineService: it can't be done here.
func (e engine) Pause(_ context.Context, req *enginev1.PauseRequest) (*enginev1.PauseResponse, error) {
	_, err := (&controls{}).Pause(req.GetWorkload(), 1)
	return nil, err
}

// WatchEndpoints implements EngineService. Each ready pod is a forwarded port of
// this machine's loopback.
func (e engine) WatchEndpoints(req *enginev1.WatchEndpointsRequest, stream grpc.ServerStreamingServer[enginev1.WatchEndpointsResponse]) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var told []string
	for first := true; ; first = false {
		s, err := e.read(stream.Context())
		if err != nil {
			return answer(err)
		}
		pods, err := s.podsOf(req.GetService())
		if err != nil {
			return err
		}
		var addresses []string
		for _, p := range pods {
			if !ready(p) {
				continue
			}
			address, err := e.forwardPod(p.Name, "grpc")
			if err != nil {
				return answer(err)
			}
			addresses = append(addresses, address)
		}
		if first || !slices.Equal(addresses, told) {
			told = addresses
			if err := stream.Send(&enginev1.WatchEndpointsResponse{Addresses: addresses}); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-tick.C:
		}
	}
}

// StreamLogs implements EngineService.
func (e engine) StreamLogs(req *enginev1.StreamLogsRequest, stream grpc.ServerStreamingServer[enginev1.StreamLogsResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	s, err := e.read(ctx)
	if err != nil {
		return answer(err)
	}
	var pods []*corev1.Pod
	for i := range s.pods {
		if req.GetName() == "" || s.pods[i].Name == req.GetName() {
			pods = append(pods, &s.pods[i])
		}
	}
	if len(pods) == 0 {
		if pods, err = s.podsOf(req.GetName()); err != nil {
			return err
		}
	}
	tail := int64(req.GetTail())
	lines := make(chan *enginev1.StreamLogsResponse)
	var reading sync.WaitGroup
	for _, p := range pods {
		reading.Go(func() {
			log, err := e.client.CoreV1().Pods(e.namespace).GetLogs(p.Name, &corev1.PodLogOptions{
				Container: p.Spec.Containers[0].Name, Follow: req.GetFollow(), TailLines: &tail,
			}).Stream(ctx)
			if err != nil {
				return // it has not begun, or is gone
			}
			defer log.Close()
			for scanner := bufio.NewScanner(log); scanner.Scan(); {
				select {
				case lines <- &enginev1.StreamLogsResponse{Replica: p.Name, Line: scanner.Text()}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	go func() { reading.Wait(); close(lines) }()
	for line := range lines {
		if err == nil {
			if err = stream.Send(line); err != nil {
				cancel()
			}
		}
	}
	return err
}

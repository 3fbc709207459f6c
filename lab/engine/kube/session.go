package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// Session serves the engine's APIs about a cluster, within this program: whoever
// steers a mesh talks to one as to a local engine. It is safe for concurrent use.
type Session struct {
	*Cluster

	forwards *forwards
	faults   *faults
	knobs    *knobs
	server   *grpc.Server
	serving  sync.WaitGroup
	conn     *grpc.ClientConn
	dir      string
}

// Open begins a session. Close it: it holds forwarded ports.
func Open(c *Cluster) (*Session, error) {
	s := &Session{Cluster: c, forwards: newForwards(c.rest, c.client.CoreV1().RESTClient()), server: grpc.NewServer()}
	s.faults, s.knobs = newFaults(s), newKnobs(s)
	knobv1.RegisterKnobServiceServer(s.server, s.knobs)
	enginev1.RegisterEngineServiceServer(s.server, engine{Session: s})
	autoscalerv1.RegisterAutoscalerServiceServer(s.server, observer{Session: s})
	faultv1.RegisterFaultServiceServer(s.server, s.faults)
	// A socket in a directory of our own: nobody else of this machine gets to the
	// cluster by it.
	var err error
	if s.dir, err = os.MkdirTemp("", "spillway-kube-"); err != nil {
		return nil, fmt.Errorf("make room for the session's socket: %w", err)
	}
	path := filepath.Join(s.dir, "api.sock")
	lis, err := net.Listen("unix", path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the session's socket: %w", err), s.Close())
	}
	s.serving.Go(func() { _ = s.server.Serve(lis) }) // until Stop
	if s.conn, err = grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return nil, errors.Join(fmt.Errorf("reach the session: %w", err), s.Close())
	}
	return s, nil
}

// Conn is a connection to EngineService, AutoscalerService, FaultService and
// KnobService.
func (s *Session) Conn() *grpc.ClientConn { return s.conn }

// PrometheusURL is where the HTTP API of the cluster's Prometheus answers while the
// session is open; an error when the cluster has none.
func (s *Session) PrometheusURL(ctx context.Context) (string, error) {
	address, err := s.forward(ctx, observability, prometheus, "9090")
	if err == nil && address == "" {
		err = fmt.Errorf("namespace %s of context %s has no Service %s, which scrapes the mesh: apply k8s/observability/lite, or choose an overlay that brings it, such as ci",
			observability, s.context, prometheus)
	}
	if err != nil {
		return "", err
	}
	return "http://" + address, nil
}

// Close ends the session and everything that it forwards. Faults and knobs stay as
// they are.
func (s *Session) Close() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	s.server.Stop()
	s.serving.Wait()
	s.faults.close()
	errs = append(errs, s.knobs.close(), s.forwards.close(), os.RemoveAll(s.dir))
	return errors.Join(errs...)
}

// forward returns the loopback address of a port of a Service; empty when there is
// no such Service.
func (s *Session) forward(ctx context.Context, namespace, service, port string) (string, error) {
	there, err := s.has(ctx, namespace, service)
	if err != nil || !there {
		return "", err
	}
	return s.forwards.listen(fmt.Sprintf("service %s/%s:%s", namespace, service, port), s.behind(namespace, service, port))
}

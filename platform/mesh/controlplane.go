package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// ControlPlane tells gRPC clients about the services of a State, and replicas about their knobs. It is safe for concurrent use, and a
// prometheus.Collector of its own metrics.
type ControlPlane struct {
	log     *slog.Logger
	prefix  string
	loaded  chan struct{}
	metrics metrics

	mu       sync.Mutex
	services map[string]Service // nil before the first Set
	views    map[string]*view   // by caller
	knobs    knobValues
	declared map[string]declaration // by service
}

var _ prometheus.Collector = (*ControlPlane)(nil)

// NewControlPlane returns a control plane that knows nothing yet.
func NewControlPlane(log *slog.Logger) *ControlPlane {
	return &ControlPlane{
		log:      log,
		prefix:   strconv.FormatInt(time.Now().UnixNano(), 36) + ".",
		loaded:   make(chan struct{}),
		metrics:  newMetrics(),
		views:    make(map[string]*view),
		knobs:    knobValues{changed: make(chan struct{})},
		declared: make(map[string]declaration),
	}
}

// Set makes state what every client sees, all at once. A service that an earlier state had and this one has not
// becomes unknown: calls to it fail at once. Set costs next to nothing when little has changed. An invalid state
// is refused and changes nothing.
func (c *ControlPlane) Set(state State) error {
	if err := state.Validate(); err != nil {
		return err
	}
	next := make(map[string]Service, len(state.Services))
	for _, service := range state.Services {
		next[service.Name] = service.normal()
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.services == nil
	var changed []Service
	var gone []string
	resized := false
	for name, service := range next {
		old, ok := c.services[name]
		if !ok || !old.equal(service) {
			changed = append(changed, service)
		}
		resized = resized || len(old.Endpoints) != len(service.Endpoints)
	}
	for name := range c.services {
		if _, ok := next[name]; !ok {
			gone = append(gone, name)
			resized = true
		}
	}
	c.services = next
	c.knobs.set(state.Knobs, resized)
	if first {
		close(c.loaded)
	}
	if len(changed) == 0 && len(gone) == 0 {
		return nil
	}
	c.metrics.changes.Add(float64(len(changed) + len(gone)))
	var failed error
	for caller, v := range c.views {
		if err := v.show(changed, gone); err != nil {
			failed = errors.Join(failed, fmt.Errorf("mesh: update what %q is shown: %w", caller, err))
		}
	}
	return failed
}

// Serve answers clients on lis until ctx ends; it then returns nil. It accepts nothing before the first Set: clients
// wait in the backlog. lis is closed when Serve returns. Serve can be called again with another listener.
func (c *ControlPlane) Serve(ctx context.Context, lis net.Listener) error {
	select {
	case <-c.loaded:
	case <-ctx.Done():
		return lis.Close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	grpcServer := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(grpcServer, newStreams(ctx, c))
	knobv1.RegisterKnobServiceServer(grpcServer, &knobServer{plane: c})
	// Streams never end by themselves, so a graceful stop would wait for ever; clients reconnect.
	defer grpcServer.Stop()
	defer context.AfterFunc(ctx, grpcServer.Stop)()
	if err := grpcServer.Serve(lis); err != nil && ctx.Err() == nil {
		return fmt.Errorf("mesh: serve on %s: %w", lis.Addr(), err)
	}
	return nil
}

// viewFor returns the cache that answers a request, made when the caller is new.
func (c *ControlPlane) viewFor(node *corev3.Node, kind resource.Type, names map[string]struct{}) (*cache.LinearCache, error) {
	caller := callerOf(node)
	if caller == "" {
		return nil, status.Errorf(codes.InvalidArgument, "node id %q names no caller, give caller/instance", node.GetId())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.views[caller]
	if !ok {
		v = newView(caller, c.prefix)
		all := make([]Service, 0, len(c.services))
		for _, service := range c.services {
			all = append(all, service)
		}
		if err := v.show(all, nil); err != nil {
			return nil, fmt.Errorf("mesh: build the view of %q: %w", caller, err)
		}
		c.views[caller] = v
	}
	answers, ok := v.caches[kind]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "resource type %q is not served", kind)
	}
	if kind == resource.ListenerType {
		unknown, err := v.ask(names, c.services)
		if err != nil {
			return nil, fmt.Errorf("mesh: answer %q: %w", caller, err)
		}
		if len(unknown) > 0 {
			slices.Sort(unknown)
			c.log.Warn("a caller asks for services that the mesh does not have, its calls fail", "caller", caller, "services", unknown)
		}
	}
	return answers, nil
}

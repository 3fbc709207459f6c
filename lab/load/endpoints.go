package load

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// gateway is the service whose replicas the load is spread over.
const gateway = "gateway"

// DialReplicas connects to every ready gateway replica of a mesh and goes round
// them, following the engine's list of endpoints as replicas come and go. When
// the engine goes away the last list stays. Close the returned connection with
// the function that comes with it.
func DialReplicas(ctx context.Context, engine enginev1.EngineServiceClient) (*grpc.ClientConn, func() error, error) {
	watchCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	watch, err := engine.WatchEndpoints(watchCtx, &enginev1.WatchEndpointsRequest{Service: gateway})
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("watch the gateway's replicas: %w", err)
	}
	// Until the first list is there ctx bounds the wait.
	stop := context.AfterFunc(ctx, cancel)
	first, err := watch.Recv()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("watch the gateway's replicas: %w", err)
	}

	builder := manual.NewBuilderWithScheme("replicas")
	builder.InitialState(state(first))
	conn, err := grpc.NewClient("replicas:///"+gateway,
		grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		// An idle channel would close its resolver and forget the replicas.
		grpc.WithIdleTimeout(0),
		reconnect)
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("dial the gateway's replicas: %w", err)
	}
	var feed sync.WaitGroup
	feed.Go(func() {
		for {
			next, err := watch.Recv()
			if err != nil {
				return
			}
			builder.UpdateState(state(next))
		}
	})
	return conn, func() error {
		cancel()
		feed.Wait()
		return conn.Close()
	}, nil
}

func state(list *enginev1.WatchEndpointsResponse) resolver.State {
	var s resolver.State
	for _, address := range list.GetAddresses() {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	return s
}

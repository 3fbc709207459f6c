package bulkhead

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/problem"
)

// hanging answers nothing until its caller goes.
type hanging struct {
	healthpb.UnimplementedHealthServer
	inside chan struct{}
}

func (h hanging) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.inside <- struct{}{}
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func (h hanging) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	_, err := h.Check(stream.Context(), nil)
	return err
}

// TestACalleeThatHangs takes the places that it has and no more, and they come back when its callers go: over a
// connection, by calls and by streams.
func TestACalleeThatHangs(t *testing.T) {
	c := newCaller(t, "on", "4")
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, bank := grpc.NewServer(), hanging{inside: make(chan struct{}, 10)}
	healthpb.RegisterHealthServer(server, bank)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(lis) })
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), grpc.WithChainUnaryInterceptor(c.to.Unary), grpc.WithChainStreamInterceptor(c.to.Stream))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		done.Wait()
	})
	client := healthpb.NewHealthClient(conn)
	ctx, leave := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Canceled {
				t.Errorf("a call that is given up ends with %v", err)
			}
		})
		if _, err := client.Watch(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		<-bank.inside
	}
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); problem.Reason(err) != problem.Overloaded {
		t.Errorf("a fifth call gives %v", err)
	}
	if _, err := client.Watch(ctx, &healthpb.HealthCheckRequest{}); problem.Reason(err) != problem.Overloaded {
		t.Errorf("a fifth stream gives %v", err)
	}
	leave()
	calls.Wait()
	// gRPC ends a stream that nobody reads on its own time.
	deadline, poll := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for c.to.places.taken.Load() > 0 {
		select {
		case <-deadline:
			t.Fatalf("20s after all have gone %d places are taken", c.to.places.taken.Load())
		case <-poll.C:
		}
	}
}

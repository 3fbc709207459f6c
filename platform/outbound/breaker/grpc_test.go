package breaker

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/problem"
)

// callee answers as it is told; a stream sends one message, then waits for leave to end.
type callee struct {
	healthpb.UnimplementedHealthServer
	fails atomic.Bool
	calls atomic.Int64
	leave chan struct{}
}

func (c *callee) answer() error {
	c.calls.Add(1)
	if c.fails.Load() {
		return status.Error(codes.Unavailable, "away")
	}
	return nil
}

func (c *callee) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{}, c.answer()
}

func (c *callee) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if err := stream.Send(&healthpb.HealthCheckResponse{}); err != nil {
		return err
	}
	select {
	case <-c.leave:
	case <-stream.Context().Done():
	}
	return c.answer()
}

// dial serves c and connects to it through the breaker.
func dial(t *testing.T, c *callee, b *Breaker) healthpb.HealthClient {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, c)
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(lis) })
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), grpc.WithChainUnaryInterceptor(b.Unary), grpc.WithChainStreamInterceptor(b.Stream))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		done.Wait()
	})
	return healthpb.NewHealthClient(conn)
}

// TestACalleeThatFailsIsLeftAlone: over a connection, calls stop at the breaker, and come through again.
func TestACalleeThatFailsIsLeftAlone(t *testing.T) {
	c := newCaller(t, map[string]string{"breaker.mode": "on", "breaker.open_for": "50ms", "breaker.slow_call": "10m"})
	bank := &callee{}
	client := dial(t, bank, c.to)
	bank.fails.Store(true)
	stopped := false
	for range 10 * minimumCalls {
		_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
		p := problem.From(err)
		if p.Reason == problem.BreakerOpen {
			if stopped = true; p.RetryAfter <= 0 || p.RetryAfter > 50*time.Millisecond {
				t.Errorf("retry after %v", p.RetryAfter)
			}
		} else if p.Reason != problem.DependencyAway {
			t.Fatalf("a call gives %v", err)
		}
	}
	// Between two times of being open one probe comes through and fails; more only if the machine was slow.
	if n := bank.calls.Load(); !stopped || n < minimumCalls || n > 5*minimumCalls {
		t.Errorf("%d of %d calls came through, stopped: %v", n, 10*minimumCalls, stopped)
	}
	bank.fails.Store(false)
	deadline := time.Now().Add(20 * time.Second)
	for healed := 0; healed < 2*probes; {
		if time.Now().After(deadline) {
			t.Fatal("20s after the callee is well calls are stopped")
		}
		if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err == nil {
			healed++
		}
	}
	c.state("closed")
}

// TestStreamsCountWhenTheyEnd: also when the caller just leaves.
func TestStreamsCountWhenTheyEnd(t *testing.T) {
	c := newCaller(t, map[string]string{"breaker.mode": "on", "breaker.slow_call": "1ms"})
	bank := &callee{leave: make(chan struct{})}
	bank.fails.Store(true)
	client := dial(t, bank, c.to)
	open := func(ctx context.Context) grpc.ServerStreamingClient[healthpb.HealthCheckResponse] {
		t.Helper()
		stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	var streams []grpc.ServerStreamingClient[healthpb.HealthCheckResponse]
	for range minimumCalls {
		streams = append(streams, open(t.Context()))
	}
	for range minimumCalls { // they say nothing
		ctx, cancel := context.WithCancel(t.Context())
		stream := open(ctx)
		cancel()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Fatalf("a cancelled stream ends with %v", err)
		}
	}
	if n := c.to.current.Load().Counts(); n.Requests != 2*minimumCalls || n.TotalExclusions != minimumCalls || n.TotalFailures != 0 {
		t.Errorf("with streams under way, the counts are %+v", n)
	}
	close(bank.leave)
	for _, stream := range streams {
		if _, err := stream.Recv(); err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("a stream that fails ends with %v", err)
		}
	}
	c.state("open")
	if _, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{}); problem.Reason(err) != problem.BreakerOpen {
		t.Errorf("a stream to a callee left alone gives %v", err)
	}
}

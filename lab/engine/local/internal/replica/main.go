// Command replica is a small service for the tests of the engine. As "echo" it
// answers health checks, slowly for the service "work", and lets itself be broken
// over HTTP. As "caller" it calls the echo replicas at TARGET without a pause and
// counts what comes back.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	_ "google.golang.org/grpc/xds"
)

// work is how long a call takes, so that some are always in flight.
const work = 10 * time.Millisecond

// callers is how many calls the caller has in flight.
const callers = 4

type server struct {
	*health.Server
	served atomic.Int64
}

func (s *server) Check(ctx context.Context, request *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if request.GetService() != "work" {
		return s.Server.Check(ctx, request)
	}
	time.Sleep(work)
	s.served.Add(1)
	fmt.Println("served") // counted by the test, also after this process has ended
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, role string) error {
	s := &server{Server: health.NewServer()}
	set := func(status healthpb.HealthCheckResponse_ServingStatus, names ...string) {
		for _, name := range names {
			s.SetServingStatus(name, status)
		}
	}
	set(healthpb.HealthCheckResponse_SERVING, "startup", "", "liveness")
	var calls, failed atomic.Int64
	var lastError atomic.Value

	admin := http.NewServeMux()
	admin.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		text, _ := lastError.Load().(string)
		_ = json.NewEncoder(w).Encode(map[string]any{"calls": calls.Load(), "failed": failed.Load(), "served": s.served.Load(), "error": text})
	})
	admin.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(os.Environ()) })
	admin.HandleFunc("POST /exit/{code}", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		os.Exit(code)
	})
	admin.HandleFunc("POST /hang", func(http.ResponseWriter, *http.Request) { set(healthpb.HealthCheckResponse_NOT_SERVING, "liveness") })
	admin.HandleFunc("POST /unready", func(http.ResponseWriter, *http.Request) { set(healthpb.HealthCheckResponse_NOT_SERVING, "") })
	lis, err := net.Listen("tcp", os.Getenv("ADMIN_ADDR"))
	if err != nil {
		return err
	}
	adminServer := &http.Server{Handler: admin}
	go adminServer.Serve(lis)

	var work sync.WaitGroup
	if role == "caller" {
		conn, err := grpc.NewClient(os.Getenv("TARGET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		client := healthpb.NewHealthClient(conn)
		for range callers {
			work.Go(func() {
				for first := true; ctx.Err() == nil; first = false {
					_, err := client.Check(context.WithoutCancel(ctx), &healthpb.HealthCheckRequest{Service: "work"}, grpc.WaitForReady(first))
					calls.Add(1)
					if err != nil {
						failed.Add(1)
						lastError.Store(err.Error())
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
	}

	lis, err = net.Listen("tcp", os.Getenv("GRPC_ADDR"))
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer()
	healthpb.RegisterHealthServer(grpcServer, s)
	go grpcServer.Serve(lis)
	fmt.Println("serving", os.Getenv("POD_NAME"), os.Getenv("VERSION"))
	<-ctx.Done()
	set(healthpb.HealthCheckResponse_NOT_SERVING, "")
	work.Wait()
	fmt.Println("calls", calls.Load())
	grpcServer.GracefulStop()
	return adminServer.Close()
}

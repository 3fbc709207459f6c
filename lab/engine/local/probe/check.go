package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Check asks a container once: nil is success, an error says what it was like.
type Check func(ctx context.Context) error

// New reads a probe of a manifest, with Kubernetes' defaults. address finds where
// a port of the container is reached.
func New(p *corev1.Probe, address func(intstr.IntOrString) (string, error)) (Timing, Check, error) {
	seconds := func(n, otherwise int32) time.Duration {
		if n <= 0 {
			n = otherwise
		}
		return time.Duration(n) * time.Second
	}
	t := Timing{
		InitialDelay: time.Duration(p.InitialDelaySeconds) * time.Second,
		Period:       seconds(p.PeriodSeconds, 10),
		Timeout:      seconds(p.TimeoutSeconds, 1),
		Success:      int(max(p.SuccessThreshold, 1)),
		Failure:      3,
	}
	if p.FailureThreshold > 0 {
		t.Failure = int(p.FailureThreshold)
	}
	switch {
	case p.GRPC != nil:
		at, err := address(intstr.FromInt32(p.GRPC.Port))
		if err != nil {
			return t, nil, err
		}
		var service string
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return t, func(ctx context.Context) error { return askGRPC(ctx, at, service) }, nil
	case p.HTTPGet != nil:
		at, err := address(p.HTTPGet.Port)
		if err != nil {
			return t, nil, err
		}
		url := "http://" + at + p.HTTPGet.Path
		return t, func(ctx context.Context) error { return askHTTP(ctx, url) }, nil
	case p.TCPSocket != nil:
		at, err := address(p.TCPSocket.Port)
		if err != nil {
			return t, nil, err
		}
		return t, func(ctx context.Context) error { return askTCP(ctx, at) }, nil
	default:
		return t, nil, errors.New("the local engine has grpc, httpGet and tcpSocket probes only")
	}
}

// askGRPC opens a connection of its own, as the kubelet does. It knocks first:
// a port on which nothing listens yet is the usual answer during a start, and
// gRPC would spend a client connection on it.
func askGRPC(ctx context.Context, address, service string) error {
	knock, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	used := make(chan net.Conn, 1)
	used <- knock
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			select {
			case c := <-used:
				return c, nil
			default:
				return nil, errors.New("the connection was closed")
			}
		}))
	if err != nil {
		knock.Close()
		return err
	}
	defer func() {
		conn.Close()
		select {
		case c := <-used:
			c.Close()
		default:
		}
	}()
	response, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("health service %q is %s", service, response.GetStatus())
	}
	return nil
}

func askHTTP(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 10<<10))
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return errors.New("HTTP status " + strconv.Itoa(response.StatusCode))
	}
	return nil
}

func askTCP(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

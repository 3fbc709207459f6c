package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// lineBuffer is for questions and answers of a few bytes, in bytes.
const lineBuffer = 1 << 10

// Check asks a container once: nil is success, an error says what it was like.
type Check func(ctx context.Context) error

// Asker asks one container. Safe for concurrent use.
type Asker struct {
	address func(intstr.IntOrString) (string, error)

	mu    sync.Mutex
	lines map[string]*line // by address
}

// line is a connection that is kept open.
type line struct {
	*grpc.ClientConn
	knock chan net.Conn // holds the connection that gRPC takes first, until it does
}

func (l *line) close() {
	l.Close()
	select {
	case c := <-l.knock:
		c.Close()
	default:
	}
}

// NewAsker returns an Asker that has connected to nothing yet. address finds where
// a port of the container is reached.
func NewAsker(address func(intstr.IntOrString) (string, error)) *Asker {
	return &Asker{address: address, lines: map[string]*line{}}
}

// Close ends the connections. It must be called after the last check.
func (a *Asker) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lines {
		l.close()
	}
	a.lines = nil
}

// New reads a probe of a manifest, with Kubernetes' defaults.
func (a *Asker) New(p *corev1.Probe) (Timing, Check, error) {
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
		at, err := a.address(intstr.FromInt32(p.GRPC.Port))
		if err != nil {
			return t, nil, err
		}
		var service string
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return t, func(ctx context.Context) error { return a.askGRPC(ctx, at, service) }, nil
	case p.HTTPGet != nil:
		at, err := a.address(p.HTTPGet.Port)
		if err != nil {
			return t, nil, err
		}
		url := "http://" + at + p.HTTPGet.Path
		return t, func(ctx context.Context) error { return askHTTP(ctx, url) }, nil
	case p.TCPSocket != nil:
		at, err := a.address(p.TCPSocket.Port)
		if err != nil {
			return t, nil, err
		}
		return t, func(ctx context.Context) error { return askTCP(ctx, at) }, nil
	default:
		return t, nil, errors.New("the local engine has grpc, httpGet and tcpSocket probes only")
	}
}

// askGRPC asks over a connection that it keeps, unlike the kubelet, which opens one
// for each question: that is most of a question's price, on both sides. When the
// connection fails it asks once more over a new one.
func (a *Asker) askGRPC(ctx context.Context, address, service string) error {
	l, kept, err := a.line(ctx, address)
	if err != nil {
		return err
	}
	request := &healthpb.HealthCheckRequest{Service: service}
	response, err := healthpb.NewHealthClient(l).Check(ctx, request)
	if a.broken(ctx, address, l, err) && kept {
		if l, _, err = a.line(ctx, address); err != nil {
			return err
		}
		response, err = healthpb.NewHealthClient(l).Check(ctx, request)
		a.broken(ctx, address, l, err)
	}
	if err != nil {
		return err
	}
	if response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("health service %q is %s", service, response.GetStatus())
	}
	return nil
}

// line returns the connection to an address, and whether it was there before. It
// knocks first: a port on which nothing listens yet is the usual answer during a
// start, and gRPC would spend a client connection, and its back-off, on it.
func (a *Asker) line(ctx context.Context, address string) (l *line, kept bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lines[address]; l != nil {
		return l, true, nil
	}
	knock, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, false, err
	}
	l = &line{knock: make(chan net.Conn, 1)}
	l.knock <- knock
	l.ClientConn, err = grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(lineBuffer), grpc.WithWriteBufferSize(lineBuffer),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			select {
			case c := <-l.knock:
				return c, nil
			default:
				return nil, errors.New("the connection was closed")
			}
		}))
	if err != nil {
		knock.Close()
		return nil, false, err
	}
	a.lines[address] = l
	return l, false, nil
}

// broken tells whether a question failed for its connection's sake, which it ends
// then. An answer that is late is the container's: others may still wait for theirs
// on the same connection. Another question's hanging up shows as Canceled.
func (a *Asker) broken(ctx context.Context, address string, l *line, err error) bool {
	code := status.Code(err)
	if ctx.Err() != nil || code != codes.Unavailable && code != codes.Canceled {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lines[address] == l {
		delete(a.lines, address)
		l.close()
	}
	return true
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

package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// backend finds the pod that a new connection goes to, and its port.
type backend func(context.Context) (namespace, pod string, port int32, err error)

// forwards are ports of this machine's loopback behind which are pods of the
// cluster. A connection finds its pod when it is made: a Service's is one that is
// ready then, so that a forward outlives pods.
type forwards struct {
	rest *rest.Config
	core rest.Interface

	ctx  context.Context // ends with close
	stop context.CancelFunc
	work sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	listeners map[string]net.Listener
	tunnels   map[string]*tunnel // to pods
}

// tunnel is a connection to the kubelet of a pod, which many streams share.
type tunnel struct {
	sync.Mutex // held while it is made
	conn       httpstream.Connection
	requests   int
}

func newForwards(config *rest.Config, core rest.Interface) *forwards {
	ctx, stop := context.WithCancel(context.Background())
	return &forwards{rest: config, core: core, ctx: ctx, stop: stop,
		listeners: make(map[string]net.Listener), tunnels: make(map[string]*tunnel)}
}

// listen returns the loopback address, host:port, behind which to is; the same
// one for the same name.
func (f *forwards) listen(name string, to backend) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return "", errors.New("the connection to the cluster is closed")
	}
	if lis := f.listeners[name]; lis != nil {
		return lis.Addr().String(), nil
	}
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("forward a port to %s: %w", name, err)
	}
	f.listeners[name] = lis
	f.work.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return // closed
			}
			f.work.Go(func() { f.serve(conn, to) })
		}
	})
	return lis.Addr().String(), nil
}

// serve carries one connection. Whoever made it sees it end when its pod can't be
// reached, as with any server that is away.
func (f *forwards) serve(conn net.Conn, to backend) {
	defer conn.Close()
	stop := context.AfterFunc(f.ctx, func() { conn.Close() })
	defer stop()
	namespace, pod, port, err := to(f.ctx)
	if err != nil {
		return
	}
	data, end, err := f.open(namespace, pod, port)
	if err != nil {
		return
	}
	defer end()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(data, conn) // its end is the connection's
		data.Close()
	})
	_, _ = io.Copy(conn, data)
	// The pod has said all: what the other side may still send has no reader.
	conn.Close()
	_ = data.Reset()
	up.Wait()
}

// open makes a pair of streams to a port of a pod, as kubelet's protocol
// portforward.k8s.io has it: one for data, one on which it tells what went wrong.
func (f *forwards) open(namespace, pod string, port int32) (httpstream.Stream, func(), error) {
	f.mu.Lock()
	key := namespace + "/" + pod
	t := f.tunnels[key]
	if t == nil {
		t = new(tunnel)
		f.tunnels[key] = t
	}
	f.mu.Unlock()

	t.Lock()
	defer t.Unlock()
	if t.conn != nil {
		select {
		case <-t.conn.CloseChan():
			t.conn = nil
		default:
		}
	}
	if t.conn == nil {
		conn, err := f.dial(namespace, pod)
		if err != nil {
			return nil, nil, err
		}
		t.conn = conn
	}
	conn := t.conn
	t.requests++
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(t.requests))
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	trouble, err := conn.CreateStream(headers)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	trouble.Close() // it is for the other side to write on
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		// What is refused ends the data stream too: nobody is listening on the port.
		if text, _ := io.ReadAll(trouble); len(text) > 0 {
			_ = data.Reset()
		}
	}()
	return data, func() {
		_ = trouble.Reset()
		<-told
		conn.RemoveStreams(trouble, data)
	}, nil
}

// dial connects over WebSockets, or over SPDY where the API server is older.
func (f *forwards) dial(namespace, pod string) (httpstream.Connection, error) {
	url := f.core.Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(f.rest)
	if err != nil {
		return nil, fmt.Errorf("forward a port to pod %s: %w", pod, err)
	}
	older := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	dialer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, f.rest)
	if err != nil {
		return nil, fmt.Errorf("forward a port to pod %s: %w", pod, err)
	}
	both := portforward.NewFallbackDialerForStreaming(dialer, older, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	conn, _, err := both.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, fmt.Errorf("forward a port to pod %s of namespace %s: %w", pod, namespace, err)
	}
	return conn, nil
}

// close ends every connection and returns when nothing of them is left.
func (f *forwards) close() error {
	f.mu.Lock()
	f.closed = true
	for _, lis := range f.listeners {
		lis.Close()
	}
	tunnels := f.tunnels
	f.mu.Unlock()
	f.stop()
	var errs []error
	for _, t := range tunnels {
		t.Lock()
		if t.conn != nil {
			errs = append(errs, t.conn.Close())
		}
		t.Unlock()
	}
	f.work.Wait()
	return errors.Join(errs...)
}

// Package boottest runs a service in the test's own process, through boot.Run, with real listeners on free ports.
package boottest

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"spillway.dev/platform/boot"
)

// patience bounds every wait; only a test that fails gets there.
const patience = 30 * time.Second

// Replica is a running service.
type Replica struct {
	// Conn calls the replica as somebody who is no service.
	Conn *grpc.ClientConn

	t    testing.TB
	log  *buffer
	end  context.CancelFunc
	done chan struct{}
	err  error

	stopped bool
}

// Start runs the service with the given variables (NAME=value) and returns when it listens; use WaitServing for more. Its
// ports are free ones and its capacity is not modelled, unless the variables say otherwise. The test's end stops it,
// and fails the test if that failed, unless the test called Stop.
func Start(t testing.TB, spec boot.Spec, environ ...string) *Replica {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	r := &Replica{t: t, log: newBuffer(), end: end, done: make(chan struct{})}
	environ = append([]string{
		"SPILLWAY_GRPC_ADDR=127.0.0.1:0",
		"SPILLWAY_ADMIN_ADDR=127.0.0.1:0",
		"SPILLWAY_INSTANCE=" + spec.Name + "-test",
		"SPILLWAY_CAPACITY_SERVICE_TIME=0s",
	}, environ...)
	go func() {
		defer close(r.done)
		r.err = boot.Run(ctx, spec, environ, r.log)
	}()
	t.Cleanup(func() {
		judged := r.stopped // by the test itself
		if err := r.Stop(); err != nil && !judged {
			t.Errorf("%s: %v", spec.Name, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", spec.Name, r.log)
		}
	})
	conn, err := grpc.NewClient(r.Addr("grpc"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		// Without a Multiplier the back-off falls to nothing, and without MinConnectTimeout so does the time to connect.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: patience,
		}))
	if err != nil {
		t.Fatal(err)
	}
	r.Conn = conn
	return r
}

// Addr is where the replica listens: "grpc", "admin", or the name of an HTTP listener.
func (r *Replica) Addr(name string) string {
	r.t.Helper()
	addr, _ := r.Line("listening")[name].(string)
	if addr == "" {
		r.t.Fatalf("the replica does not listen for %q", name)
	}
	return addr
}

// Line waits for a log line with that message and gives its fields.
func (r *Replica) Line(msg string) map[string]any {
	r.t.Helper()
	late := time.After(patience)
	for {
		changed := r.log.changed()
		for _, line := range r.log.lines() {
			if line["msg"] == msg {
				return line
			}
		}
		select {
		case <-changed:
		case <-r.done:
			if strings.Contains(r.log.String(), `"msg":"`+msg+`"`) {
				continue // it came with the end
			}
			r.t.Fatalf("the replica ended before it logged %q: %v\n%s", msg, r.err, r.log)
		case <-late:
			r.t.Fatalf("the replica did not log %q in %v:\n%s", msg, patience, r.log)
		}
	}
}

// WaitServing returns when calls are let in.
func (r *Replica) WaitServing() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	watch, err := healthpb.NewHealthClient(r.Conn).Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		got, err := watch.Recv()
		if err != nil {
			r.t.Fatalf("the replica does not serve: %v\n%s", err, r.log)
		}
		if got.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			return
		}
	}
}

// Logs is everything logged so far, one JSON object per line.
func (r *Replica) Logs() string { return r.log.String() }

// SIGTERM begins the drain and does not wait.
func (r *Replica) SIGTERM() { r.end() }

// Stop drains the replica and gives what boot.Run returned. It may be called more than once.
func (r *Replica) Stop() error {
	r.stopped = true
	r.end()
	<-r.done
	if r.Conn != nil {
		_ = r.Conn.Close() // the second time it is closed already
	}
	return r.err
}

// buffer is a log that can be waited on.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
	more chan struct{}
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{})} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.more)
	b.more = make(chan struct{})
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// changed is closed with the next write.
func (b *buffer) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.more
}

func (b *buffer) lines() []map[string]any {
	var lines []map[string]any
	for line := range strings.Lines(b.String()) {
		fields := map[string]any{}
		if json.Unmarshal([]byte(line), &fields) == nil {
			lines = append(lines, fields)
		}
	}
	return lines
}

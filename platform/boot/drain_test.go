package boot_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
)

// steps gives the drain's steps as logged, in order.
func steps(r *boottest.Replica) []string {
	var names []string
	for line := range strings.Lines(r.Logs()) {
		if strings.Contains(line, `"msg":"drain step`) {
			_, rest, _ := strings.Cut(line, `"step":"`)
			name, _, _ := strings.Cut(rest, `"`)
			names = append(names, name)
		}
	}
	return names
}

// TestDrainLosesNothing drains a replica in the middle of everything: a unary call, a stream, an HTTP request that has
// still to become a call, a health watch and a worker that holds something.
func TestDrainLosesNothing(t *testing.T) {
	var d diary
	unaryIn, httpIn := make(chan struct{}), make(chan struct{})
	finishUnary, finishHTTP, finishWork := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := &service{
		do: func(ctx context.Context, text string) (string, error) {
			if text == "long" {
				close(unaryIn)
				<-finishUnary
				d.note("call finished")
			}
			return "done", ctx.Err()
		},
		echo: func(stream grpc.ServerStream) error {
			for {
				msg := &wrapperspb.StringValue{}
				if err := stream.RecvMsg(msg); err != nil {
					if errors.Is(err, io.EOF) {
						d.note("stream finished")
						return nil
					}
					return err
				}
				if err := stream.SendMsg(msg); err != nil {
					return err
				}
			}
		},
	}
	r := boottest.Start(t, spec(s, func(app *boot.App) error {
		self, err := app.Loopback()
		if err != nil {
			return err
		}
		app.ServeHTTP("http", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			close(httpIn)
			<-finishHTTP
			text, err := do(req.Context(), self, "short")
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			_, _ = io.WriteString(w, text)
		}))
		app.Worker("worker", func(ctx context.Context) error {
			<-ctx.Done()
			d.note("worker told")
			<-finishWork
			d.note("worker finished")
			return nil
		})
		app.OnClose("a", func(context.Context) error { d.note("closed a"); return nil })
		app.OnClose("b", func(context.Context) error { d.note("closed b"); return errors.New("b was closed before") })
		return nil
	}), "SPILLWAY_DRAIN_TIMEOUT=60s", "SPILLWAY_DRAIN_DELAY=50ms", "SPILLWAY_DEADLINE_DEFAULT=60s")
	r.WaitServing()

	unary := make(chan error, 1)
	go func() {
		_, err := do(t.Context(), r.Conn, "long")
		unary <- err
	}()
	stream, err := r.Conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, echoMethod)
	if err != nil {
		t.Fatal(err)
	}
	echo := func() {
		t.Helper()
		if err := stream.SendMsg(wrapperspb.String("a")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&wrapperspb.StringValue{}); err != nil {
			t.Fatal(err)
		}
	}
	echo()
	type answer struct {
		body string
		err  error
	}
	web := make(chan answer, 1)
	go func() {
		defer http.DefaultClient.CloseIdleConnections()
		resp, err := http.Get("http://" + r.Addr("http"))
		if err != nil {
			web <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		web <- answer{string(body), err}
	}()
	watch, err := healthpb.NewHealthClient(r.Conn).Watch(t.Context(), &healthpb.HealthCheckRequest{Service: exampleService})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("watch: %v, %v", got, err)
	}
	<-unaryIn
	<-httpIn

	r.SIGTERM()
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch: %v, %v", got, err)
	}
	want := map[string]string{"": "NOT_SERVING", exampleService: "NOT_SERVING", "startup": "SERVING", "liveness": "SERVING"}
	if got := statuses(t, r); len(got) != len(want) || got[""] != want[""] || got["liveness"] != want["liveness"] || got["startup"] != want["startup"] {
		t.Errorf("health is %v, want %v", got, want)
	}
	if state, _ := healthz(t, r); state != "draining" {
		t.Errorf("state is %s, want draining", state)
	}
	// Callers that have not heard yet are served, during the delay and while the HTTP listener stops.
	if err := call(t, r.Conn); err != nil {
		t.Errorf("a latecomer: %v", err)
	}
	echo()

	close(finishHTTP)
	if got := <-web; got.err != nil || got.body != "done" {
		t.Errorf("the HTTP request got %q, %v", got.body, got.err)
	}
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v", err)
	}
	eventually(t, "new calls are refused", func() bool { return call(t, r.Conn) != nil })
	if slices.Contains(d.read(), "worker told") {
		t.Error("the worker was told to end before the calls had finished")
	}
	echo()
	close(finishUnary)
	if err := <-unary; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if err := stream.RecvMsg(&wrapperspb.StringValue{}); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	close(finishWork)
	if err := r.Stop(); err != nil {
		t.Errorf("Run returned %v: a close that failed is logged, no more", err)
	}

	events := d.read()
	slices.Sort(events[:2]) // call and stream finish in any order
	if got, want := strings.Join(events, ", "), "call finished, stream finished, worker told, worker finished, closed b, closed a"; got != want {
		t.Errorf("order is\n%s\nwant\n%s", got, want)
	}
	if got, want := strings.Join(steps(r), ", "), "readiness, delay, http, grpc, workers, telemetry, close b, close a, close loopback"; got != want {
		t.Errorf("steps are\n%s\nwant\n%s", got, want)
	}
	if line := r.Line("drain step failed"); line["step"] != "close b" || line["error"] != "b was closed before" {
		t.Errorf("log says %v", line)
	}
}

func TestDrainDeadlineCancelsHandlersAndGoesOn(t *testing.T) {
	var d diary
	in := make(chan struct{})
	s := &service{do: func(ctx context.Context, _ string) (string, error) {
		close(in)
		<-ctx.Done()
		d.note("handler cancelled")
		return "", ctx.Err()
	}}
	r := boottest.Start(t, spec(s, func(app *boot.App) error {
		app.Worker("worker", func(ctx context.Context) error { <-ctx.Done(); d.note("worker finished"); return nil })
		app.OnClose("store", func(context.Context) error { d.note("store closed"); return nil })
		return nil
	}), "SPILLWAY_DRAIN_TIMEOUT=2s", "SPILLWAY_DEADLINE_DEFAULT=1h") // enough for the worker on a busy machine
	r.WaitServing()
	unary := make(chan error, 1)
	go func() { unary <- call(t, r.Conn) }()
	<-in
	err := r.Stop()
	if err == nil || !strings.Contains(err.Error(), `drain step "grpc" was cut by the deadline`) || strings.Contains(err.Error(), "worker") {
		t.Errorf("Run returned %v", err)
	}
	if code := status.Code(<-unary); code != codes.Unavailable && code != codes.Canceled {
		t.Errorf("the caller was told %v", code)
	}
	if got, want := strings.Join(d.read(), ", "), "handler cancelled, worker finished, store closed"; got != want {
		t.Errorf("order is %q, want %q", got, want)
	}
	r.Line("drained, but the deadline cut work short")
}

func TestWorkerThatFailsRunsAgain(t *testing.T) {
	var runs atomic.Int64
	var once diary
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		app.Worker("flaky", func(ctx context.Context) error {
			if runs.Add(1) < 3 {
				return errors.New("stream is not there")
			}
			<-ctx.Done()
			return ctx.Err()
		})
		app.Worker("once", func(context.Context) error { once.note("ran"); return nil })
		return nil
	}))
	r.WaitServing()
	eventually(t, "the worker runs a third time", func() bool { return runs.Load() == 3 })
	if line := r.Line("worker failed and will run again"); line["worker"] != "flaky" {
		t.Errorf("log says %v", line)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if got := once.read(); len(got) != 1 {
		t.Errorf("a worker that was done ran %d times", len(got))
	}
}

func TestDrainThatHasNothingToDoIsQuick(t *testing.T) {
	r := boottest.Start(t, spec(&service{}, nil))
	r.WaitServing()
	begin := time.Now()
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second { // the timeout is 10 s; a health watch of WaitServing must not hold it
		t.Errorf("took %v", took)
	}
}

func TestCollectorThatIsAwayDoesNotHoldTheDrain(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+hole.Addr().String())
	// The SDK's own goroutines outlive its shutdown until this, in milliseconds, has passed; 10 s if nobody says so.
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")
	before := goleak.IgnoreCurrent()
	r := boottest.Start(t, spec(&service{}, nil), "SPILLWAY_TRACE_RATIO=1", "SPILLWAY_DRAIN_TIMEOUT=1h")
	r.WaitServing()
	if err := call(t, r.Conn); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil { // within the hour
		t.Error(err)
	}
	if line := r.Line("drain step failed"); line["step"] != "telemetry" {
		t.Errorf("log says %v", line)
	}
	eventually(t, "the SDK has given up too", func() bool { return goleak.Find(before) == nil })
}

// TestLastScrapeIsWaitedFor ends a replica that nobody calls: it stays until somebody has read its figures, and no longer.
func TestLastScrapeIsWaitedFor(t *testing.T) {
	r := boottest.Start(t, boot.Spec{Name: "counts", Build: func(context.Context, *boot.App) error { return nil }},
		"SPILLWAY_DRAIN_LAST_SCRAPE=1h")
	r.WaitServing()
	ended := make(chan error, 1)
	r.SIGTERM()
	go func() { ended <- r.Stop() }()
	transport := &http.Transport{DisableKeepAlives: true}
	for {
		response, err := (&http.Client{Transport: transport}).Get("http://" + r.Addr("admin") + "/metrics")
		if err == nil { // each that is answered before the drain is done is not the last one
			_, err = io.Copy(io.Discard, response.Body)
			if err != nil {
				t.Error("an answer was cut:", err)
			}
			response.Body.Close()
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

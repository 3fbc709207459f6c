package boot_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/knobs"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// controlPlane serves knobs as the mesh's control plane does, and nothing else. What is sent on its channel goes to the
// replica that watches.
type controlPlane struct {
	knobv1.UnimplementedKnobServiceServer
	snapshots chan map[string]string
	asked     chan *knobv1.WatchKnobsRequest
}

func (c *controlPlane) WatchKnobs(request *knobv1.WatchKnobsRequest, stream grpc.ServerStreamingServer[knobv1.WatchKnobsResponse]) error {
	c.asked <- request
	for {
		select {
		case values := <-c.snapshots:
			if err := stream.Send(&knobv1.WatchKnobsResponse{Values: values}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// serveKnobs serves a control plane on lis until the test ends.
func serveKnobs(t *testing.T, lis net.Listener) *controlPlane {
	t.Helper()
	c := &controlPlane{snapshots: make(chan map[string]string), asked: make(chan *knobv1.WatchKnobsRequest, 10)}
	server := grpc.NewServer()
	knobv1.RegisterKnobServiceServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(lis); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return c
}

func listenLocal(t *testing.T, address string) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// turned is a service with one knob, and what its warm-up found it to be.
func turned(t *testing.T) (svc boot.Spec, knob func() *knobs.Int, warm chan int64) {
	t.Helper()
	warm = make(chan int64, 1)
	var quota *knobs.Int
	return spec(&service{}, func(app *boot.App) error {
		quota = app.Knobs().Int("quota", 5, 1, 100, "calls a second")
		app.Warm("look", func(context.Context) error { warm <- quota.Get(); return nil })
		return nil
	}), func() *knobs.Int { return quota }, warm
}

func TestKnobsAreKnownBeforeWarmUp(t *testing.T) {
	lis := listenLocal(t, "127.0.0.1:0")
	control := serveKnobs(t, lis)
	spec, knob, warm := turned(t)
	r := boottest.Start(t, spec, "SPILLWAY_CONTROL_TARGET="+lis.Addr().String())
	request := <-control.asked
	if request.GetService() != "example" || request.GetInstance() != "example-test" {
		t.Errorf("the replica asks as %s/%s", request.GetService(), request.GetInstance())
	}
	declared := false
	for _, k := range request.GetKnobs() {
		declared = declared || k.GetName() == "quota" && k.GetDefault() == "5"
	}
	if !declared {
		t.Errorf("the service's knob is not among those declared: %v", request.GetKnobs())
	}
	control.snapshots <- map[string]string{"quota": "7"}
	if got := <-warm; got != 7 {
		t.Errorf("at warm-up the knob is %d, want the value that the control plane sent, 7", got)
	}
	r.WaitServing()
	control.snapshots <- map[string]string{"quota": "8"}
	eventually(t, "the knob's change", func() bool { return knob().Get() == 8 })
	if got := metrics(t, r); !strings.Contains(got, `spillway_knob_value{knob="quota"} 8`) {
		t.Errorf("the knob is not among the metrics:\n%s", got)
	}
}

func metrics(t *testing.T, r *boottest.Replica) string {
	t.Helper()
	response, err := http.Get("http://" + r.Addr("admin") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestNoControlPlaneIsNoReasonNotToServe: the replica goes on with its defaults, and hears of knobs when there is
// somebody to hear from.
func TestNoControlPlaneIsNoReasonNotToServe(t *testing.T) {
	lis := listenLocal(t, "127.0.0.1:0")
	address := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	spec, knob, warm := turned(t)
	begin := time.Now()
	r := boottest.Start(t, spec, "SPILLWAY_CONTROL_TARGET="+address)
	if got := <-warm; got != 5 {
		t.Errorf("at warm-up the knob is %d, want its default, 5", got)
	}
	if took := time.Since(begin); took < time.Second {
		t.Errorf("the replica waited %v for the control plane, want 1s", took)
	}
	if line := r.Line("no word of the control plane, going on with the defaults of all knobs"); line["target"] != address {
		t.Errorf("the log names %v, want %s", line["target"], address)
	}
	r.WaitServing()
	control := serveKnobs(t, listenLocal(t, address))
	control.snapshots <- map[string]string{"quota": "7"}
	eventually(t, "the knob's value from the control plane that came late", func() bool { return knob().Get() == 7 })
}

func TestToldToEndWhileWaitingForKnobs(t *testing.T) {
	lis := listenLocal(t, "127.0.0.1:0") // where nobody answers
	defer lis.Close()
	spec, _, _ := turned(t)
	r := boottest.Start(t, spec, "SPILLWAY_CONTROL_TARGET="+lis.Addr().String())
	if err := r.Stop(); err != nil {
		t.Errorf("the replica ended with %v", err)
	}
}

func TestWrongControlTarget(t *testing.T) {
	cmd, _, stderr := startChild(t, "SPILLWAY_CONTROL_TARGET=%zz:///")
	if code := exitCode(cmd.Wait()); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(stderr.String(), `dial the control plane at SPILLWAY_CONTROL_TARGET="%zz:///" (give host:port)`) {
		t.Errorf("stderr is %s", stderr)
	}
}

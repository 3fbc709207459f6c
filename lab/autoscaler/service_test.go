package autoscaler_test

import (
	"encoding/json"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/autoscaler"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

// serve serves an autoscaler of a demo that does not run.
func serve(t *testing.T) (*demo, *autoscaler.Autoscaler, autoscalerv1.AutoscalerServiceClient) {
	t.Helper()
	d := newDemo(t, 2, perPod)
	a, err := autoscaler.New(autoscaler.Config{Rules: "testdata/rules.yaml"}, d.cluster(), d.query)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	autoscalerv1.RegisterAutoscalerServiceServer(server, a)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d, a, autoscalerv1.NewAutoscalerServiceClient(conn)
}

func TestListObjects(t *testing.T) {
	d, _, client := serve(t)
	for kind, want := range map[string]struct {
		version string
		count   int
	}{
		"HorizontalPodAutoscaler": {"autoscaling/v2", 1}, "Deployment": {"apps/v1", 1}, "Pod": {"v1", 2}, "Node": {"v1", 0},
	} {
		resp, err := client.ListObjects(t.Context(), &autoscalerv1.ListObjectsRequest{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.GetObjects()) != want.count {
			t.Errorf("%d of kind %s, want %d", len(resp.GetObjects()), kind, want.count)
		}
		for _, text := range resp.GetObjects() {
			var object struct{ APIVersion, Kind string }
			if err := json.Unmarshal([]byte(text), &object); err != nil || object.APIVersion != want.version || object.Kind != kind {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	if _, err := client.ListObjects(t.Context(), &autoscalerv1.ListObjectsRequest{Kind: "Job"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("kind Job: %v", err)
	}
	d.change(func() { d.gone = true })
	if resp, err := client.ListObjects(t.Context(), &autoscalerv1.ListObjectsRequest{Kind: "Deployment"}); err != nil || len(resp.GetObjects()) != 0 {
		t.Errorf("a Deployment that has gone is listed: %v, %v", resp, err)
	}
}

func TestStreamEvents(t *testing.T) {
	_, a, client := serve(t)
	add := func(name, reason string) {
		a.Events().Add(autoscaler.Event{At: time.Unix(7, 0), Type: "Normal", Reason: reason, Kind: "Pod", Name: name, Message: "m"})
	}
	add("a", "First")
	add("b", "Other")
	stream, err := client.StreamEvents(t.Context(), &autoscalerv1.StreamEventsRequest{Name: "a", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"First", "Second"} {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetReason() != want || e.GetName() != "a" || e.GetKind() != "Pod" || e.GetType() != "Normal" ||
			e.GetMessage() != "m" || !e.GetAt().AsTime().Equal(time.Unix(7, 0)) {
			t.Errorf("got %v, want %s", e, want)
		}
		add("b", "Other")
		add("a", "Second")
	}
	all, err := client.StreamEvents(t.Context(), &autoscalerv1.StreamEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for {
		if _, err := all.Recv(); err != nil {
			break
		}
		count++
	}
	if count != 6 {
		t.Errorf("%d events without following, want 6", count)
	}
}

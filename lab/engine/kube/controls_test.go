package kube

import (
	"context"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"spillway.dev/lab/fault"
	"spillway.dev/platform/mesh"
)

func TestControlsAreReadAsTheyWereWritten(t *testing.T) {
	want := document{
		controls: mesh.Controls{
			Faults:    map[string][]mesh.Fault{"catalog": {{Caller: "gateway", Delay: time.Second, DelayShare: 0.5}}},
			Knobs:     map[string]map[string]string{"bank": {"capacity.slowdown": "4"}},
			Endpoints: mesh.EndpointNews{Delay: 3 * time.Second},
		},
		kept: fault.Kept{Last: 7, Knobs: map[string]map[string]string{"bank": {"capacity.slowdown": "4"}}},
	}
	data, err := want.data()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
	if got, err := parse(nil); err != nil || !reflect.DeepEqual(got, document{}) {
		t.Errorf("read nothing as %+v, %v", got, err)
	}
	for _, bad := range []map[string]string{{mesh.ControlsKey: `{"fautls": {}}`}, {keptKey: `{`}} {
		if got, err := parse(bad); err == nil {
			t.Errorf("%v is read as %+v", bad, got)
		}
	}
	bad := document{controls: mesh.Controls{Endpoints: mesh.EndpointNews{Delay: -1}}}
	if _, err := bad.data(); err == nil {
		t.Error("controls that the control plane would refuse are written")
	}
}

func TestAChangeOfControlsIsWrittenSoon(t *testing.T) {
	client := fake.NewClientset()
	c := &Cluster{client: client, namespace: "mesh"}
	k, _, err := readControls(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	k.kept = func() (fault.Kept, error) { return fault.Kept{}, nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.run(ctx) }()
	defer func() { cancel(); <-done }()
	watch, err := client.CoreV1().ConfigMaps("mesh").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	k.SetEndpointUpdates(time.Second, false)
	select {
	case <-watch.ResultChan():
	case <-time.After(10 * time.Second):
		t.Fatal("the change was not written within ten seconds")
	}
	again, _, err := readControls(t.Context(), c)
	if err != nil || again.want.Endpoints.Delay != time.Second {
		t.Errorf("the controls are %+v, %v", again, err)
	}
}

func TestAReplicaOfAClusterIsNotPaused(t *testing.T) {
	if _, err := new(controls).Pause("order", 1); status.Code(err) != codes.Unimplemented {
		t.Errorf("pause: %v, want that it can't be done", err)
	}
}

package mesh

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

func knobClient(t *testing.T, address string) knobv1.KnobServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return knobv1.NewKnobServiceClient(conn)
}

// watchKnobs declares knobs by their names and returns what receives the next snapshot.
func watchKnobs(t *testing.T, client knobv1.KnobServiceClient, service string, names ...string) (next func() map[string]string) {
	t.Helper()
	request := &knobv1.WatchKnobsRequest{Service: service, Instance: service + "-1"}
	for _, name := range names {
		request.Knobs = append(request.Knobs, &knobv1.Knob{Name: name, Type: knobv1.KnobType_KNOB_TYPE_INT})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	stream, err := client.WatchKnobs(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	return func() map[string]string {
		t.Helper()
		snapshot, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return snapshot.GetValues()
	}
}

func setKnobs(t *testing.T, plane *ControlPlane, knobs map[string]map[string]string) {
	t.Helper()
	if err := plane.Set(State{Services: []Service{{Name: "order"}, {Name: "bank"}}, Knobs: knobs}); err != nil {
		t.Fatal(err)
	}
}

func TestKnobsAreWatched(t *testing.T) {
	plane := newPlane(t)
	setKnobs(t, plane, map[string]map[string]string{"order": {"a": "1"}})
	client := knobClient(t, serve(t, plane, listen(t)))
	order, bank := watchKnobs(t, client, "order", "b", "a"), watchKnobs(t, client, "bank", "quota")
	is := func(got map[string]string, want map[string]string) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	is(order(), map[string]string{"a": "1"})
	is(bank(), nil) // a snapshot of no values is one too

	// Only whom a change concerns hears of it: the bank's next word is about itself.
	setKnobs(t, plane, map[string]map[string]string{"order": {"a": "2", "b": "3"}})
	is(order(), map[string]string{"a": "2", "b": "3"})
	setKnobs(t, plane, map[string]map[string]string{"bank": {"quota": "9"}})
	is(order(), nil)
	is(bank(), map[string]string{"quota": "9"})

	list, err := client.ListKnobs(t.Context(), &knobv1.ListKnobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := listed(list), []string{"bank quota=9", "order a= b="}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	if list, err = client.ListKnobs(t.Context(), &knobv1.ListKnobsRequest{Service: "order"}); err != nil || len(listed(list)) != 1 {
		t.Errorf("got %q, %v, want order alone", listed(list), err)
	}
}

func listed(list *knobv1.ListKnobsResponse) []string {
	var out []string
	for _, service := range list.GetServices() {
		line := service.GetService()
		for _, knob := range service.GetKnobs() {
			line += " " + knob.GetKnob().GetName() + "=" + knob.GetValue()
		}
		out = append(out, line)
	}
	return out
}

// TestDeclarationsOutliveReplicas: a knob can be set for replicas that are still to come.
func TestDeclarationsOutliveReplicas(t *testing.T) {
	plane := newPlane(t)
	setKnobs(t, plane, nil)
	client := knobClient(t, serve(t, plane, listen(t)))
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.WatchKnobs(ctx, &knobv1.WatchKnobsRequest{Service: "order", Instance: "1", Knobs: []*knobv1.Knob{{Name: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); err == nil || err == io.EOF {
		t.Fatalf("the watch goes on: %v", err)
	}
	watchKnobs(t, client, "order", "b")() // a later version of the service, with another knob
	list, err := client.ListKnobs(t.Context(), &knobv1.ListKnobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(list); !slices.Equal(got, []string{"order a= b="}) {
		t.Errorf("listed %q, want both knobs", got)
	}
}

// TestNoKnobsBeforeTheFirstSet: a replica that was told of no values too early would fall back to its defaults.
func TestNoKnobsBeforeTheFirstSet(t *testing.T) {
	plane := newPlane(t)
	lis := &countingListener{Listener: listen(t)}
	client := knobClient(t, serve(t, plane, lis))
	type answer struct {
		snapshot *knobv1.WatchKnobsResponse
		err      error
	}
	first := make(chan answer, 1)
	go func() {
		stream, err := client.WatchKnobs(t.Context(), &knobv1.WatchKnobsRequest{Service: "order", Instance: "1"})
		if err != nil {
			first <- answer{err: err}
			return
		}
		snapshot, err := stream.Recv()
		first <- answer{snapshot, err}
	}()
	if lis.accepts.Load() != 0 {
		t.Error("a connection was awaited before the mesh was known")
	}
	setKnobs(t, plane, map[string]map[string]string{"order": {"a": "1"}})
	if got := <-first; got.err != nil || got.snapshot.GetValues()["a"] != "1" {
		t.Errorf("the first answer is %v, %v, want the value that is set", got.snapshot, got.err)
	}
}

func TestBadKnobRequestsAreRefused(t *testing.T) {
	plane := newPlane(t)
	setKnobs(t, plane, nil)
	stream, err := knobClient(t, serve(t, plane, listen(t))).WatchKnobs(t.Context(), &knobv1.WatchKnobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v, want InvalidArgument", err)
	}
	for _, knobs := range []map[string]map[string]string{{"": {"a": "1"}}, {"order": {"": "1"}}} {
		if err := plane.Set(State{Services: []Service{{Name: "order"}}, Knobs: knobs}); err == nil || !strings.Contains(err.Error(), "a name is missing") {
			t.Errorf("%v: got %v, want an error about the name", knobs, err)
		}
	}
}

// TestReplicasAreTold: a replica hears how many of its kind there are, with its values and at every change of the number,
// and at no other change of the endpoints.
func TestReplicasAreTold(t *testing.T) {
	plane := newPlane(t)
	set := func(quota string, orders ...Endpoint) {
		t.Helper()
		if err := plane.Set(State{
			Services: []Service{{Name: "order", Endpoints: orders}, {Name: "bank"}},
			Knobs:    map[string]map[string]string{"order": {"quota": quota}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	at := func(port uint32) Endpoint { return Endpoint{Address: "127.0.0.1", Port: port} }
	set("1", at(1))
	client := knobClient(t, serve(t, plane, listen(t)))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := client.WatchKnobs(ctx, &knobv1.WatchKnobsRequest{Service: "order", Instance: "1"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(replicas uint32, quota string) {
		t.Helper()
		snapshot, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if snapshot.GetReplicas() != replicas || snapshot.GetValues()["quota"] != quota {
			t.Errorf("told %v, want %d replicas and a quota of %s", snapshot, replicas, quota)
		}
	}
	next(1, "1")
	set("1", at(1), at(2), at(3))
	next(3, "1")
	draining := at(2)
	draining.Draining = true
	set("1", at(4), draining, at(3)) // still three, one of which finishes what it has
	set("2", at(4), at(3))           // so that this is the next word
	next(2, "2")
	set("2")
	next(0, "2")
	// A service that the mesh does not have has no replicas either.
	if err := plane.Set(State{Services: []Service{{Name: "bank"}}, Knobs: map[string]map[string]string{"order": {"quota": "3"}}}); err != nil {
		t.Fatal(err)
	}
	next(0, "3")
}
